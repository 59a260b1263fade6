//! "Did you mean …?"

/// The names of `known` that `name` is probably a slip of, nearest first, at most three.
pub fn near_names<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    // One slip in three characters; short names allow one.
    let limit = (name.chars().count() / 3).clamp(1, 3);
    let lower = name.to_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .filter(|k| k.len().abs_diff(name.len()) <= limit)
        .map(|k| (strsim::osa_distance(&lower, &k.to_lowercase()), k))
        .filter(|(distance, k)| *distance <= limit && *distance < k.chars().count())
        .collect();
    near.sort();
    near.dedup();
    near.into_iter()
        .take(3)
        .map(|(_, k)| k.to_owned())
        .collect()
}
