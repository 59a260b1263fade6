//! The run: form after form, case after case, and the tally of it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use iced_x86::{Code, Instruction, Mnemonic, Register};

use tracer_user::backend::Backend;

use crate::case::Case;
use crate::copies::{self, Way};
use crate::forms::Forms;
use crate::generate::{self, NoCase};
use crate::hardware;
use crate::judge::{Trial, Verdict};
use crate::random::Random;
use crate::traced::Traced;
use crate::world::World;

/// Draws of a case before a form is given up for this pass.
const DRAWS: u32 = 40;
/// Share of the supported forms, in percent, that a run has to cover.
pub(crate) const WANTED: f64 = 98.0;
/// Forms that may be left out on any processor: those that are refused, or cannot be run, are the same
/// few hundredths of all forms where there are AVX-512's, and more of them where there are not.
const LEFT_OUT: usize = 44;

/// What is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The decoder's account, and displaced copies.
    Accounts,
    /// Cases through the real engine, recorded by this recorder.
    Traced(Backend),
}

impl Part {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Part::Accounts => "accounts",
            Part::Traced(Backend::Ebpf) => "traced, ebpf",
            Part::Traced(Backend::Ptrace) => "traced, ptrace",
            Part::Traced(_) => "traced",
        }
    }
}

/// How long to go on: all forms are gone through at least so often, and until time is up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    pub(crate) passes: u32,
    pub(crate) time: Duration,
}

/// What a run found.
#[derive(Default)]
pub(crate) struct Tally {
    /// Cases run.
    cases: u64,
    /// By form: cases that were right.
    right: HashMap<Code, u64>,
    /// By form: why there was no judgement, with one example.
    without: HashMap<Code, BTreeMap<String, u64>>,
    /// Forms that want aligned operands.
    aligned: HashSet<Code>,
    /// How cases go on from a fault.
    copies: u64,
    steps: BTreeMap<String, u64>,
    /// Cases that may be unsteady, were wrong and, done again, right.
    unsteady: u64,
    /// Mismatches: form, what is wrong, and the case.
    wrong: Vec<(String, String, String)>,
}

/// Judges cases in one process.
pub(crate) struct Oracle {
    world: World,
    traced: Option<Traced>,
}

impl Oracle {
    /// Maps memory and takes the signals over. Once in a process.
    pub(crate) fn new(part: Part) -> Oracle {
        let world = World::new();
        hardware::install();
        let traced = match part {
            Part::Accounts => None,
            Part::Traced(backend) => Some(Traced::new(&world, backend)),
        };
        Oracle { world, traced }
    }

    /// Whether a case may be wrong once for what the machine does beside it: what it saves depends
    /// on the components in use, or its AVX component is not in use and a supervisor has the
    /// thread switched away four times an access. Then the component came back with other bytes,
    /// in some 6 of 100,000 cases on an AMD EPYC (Zen 4) under KVM; never on an Intel, and never
    /// under the recorders that do not switch.
    fn may_be_unsteady(&self, code: Code, case: &Case) -> bool {
        match &self.traced {
            None => saves_state(code),
            Some(traced) => traced.is_switched_away() && case.absent & AVX != 0,
        }
    }

    /// Judges one case; the way it would go on from a fault, where it is right.
    pub(crate) fn case(&mut self, case: &Case) -> Result<Way, Verdict> {
        let mut trial = Trial::new(&self.world, case)?;
        let reference = trial.reference()?;
        let way = Way::of(&trial);
        if let Some(traced) = &mut self.traced {
            if loads_fs(trial.claim.decoded.instruction()) {
                let why = "it loads fs, without which no handler can run";
                return Err(Verdict::Other(why.to_owned()));
            }
            traced.check(&trial, &reference).map_err(Verdict::Wrong)?;
            return Ok(way);
        }
        trial.judge(&reference).map_err(Verdict::Wrong)?;
        if let Way::Copy(copy) = &way {
            copies::check(&trial, copy, &reference).map_err(Verdict::Wrong)?;
        }
        Ok(way)
    }

    /// Runs random cases of all forms whose name contains `only`.
    pub(crate) fn run(&mut self, forms: &Forms, extent: Extent, seed: u64, only: &str) -> Tally {
        let begin = Instant::now();
        let mut random = Random::new(seed);
        let mut tally = Tally::default();
        let mut passes = 0;
        let chosen = |code: &&Code| format!("{code:?}").contains(only);
        let chosen: Vec<Code> = forms.supported.iter().filter(chosen).copied().collect();
        while passes < extent.passes || begin.elapsed() < extent.time {
            for &code in &chosen {
                for _ in 0..DRAWS {
                    if self.draw(code, &mut random, &mut tally) {
                        break;
                    }
                }
            }
            passes += 1;
        }
        tally
    }

    /// One case of `code`; false if another draw might do better.
    fn draw(&mut self, code: Code, random: &mut Random, tally: &mut Tally) -> bool {
        let aligned = tally.aligned.contains(&code);
        let mut without = |why: String| {
            let reasons = tally.without.entry(code).or_default();
            *reasons.entry(why).or_default() += 1;
        };
        let case = match generate::case(code, random, &self.world, aligned) {
            Ok(case) => case,
            Err(NoCase::Unlucky) => {
                without("no case of it could be made".to_owned());
                return false;
            }
            Err(NoCase::Another) => {
                without("its bytes are another instruction, or two".to_owned());
                return false;
            }
            Err(NoCase::Refused(refusal)) => {
                let text = refusal.to_string();
                let why = text.rsplit("unsupported: ").next().unwrap_or(&text);
                without(format!("refused: {why}"));
                return true;
            }
        };
        tally.cases += 1;
        match self.case(&case) {
            Ok(way) => {
                *tally.right.entry(code).or_default() += 1;
                match way {
                    Way::Copy(_) => tally.copies += 1,
                    Way::Step(why) => *tally.steps.entry(why).or_default() += 1,
                    Way::Elsewhere => {}
                }
                return true;
            }
            Err(Verdict::Wrong(_))
                if self.may_be_unsteady(code, &case)
                    && (0..TRIES).any(|_| self.case(&case).is_ok()) =>
            {
                tally.unsteady += 1;
                return true;
            }
            Err(Verdict::Wrong(what)) => {
                tally.wrong.push((format!("{code:?}"), what, case.text()));
                return true;
            }
            Err(Verdict::Protection) => {
                tally.aligned.insert(code);
                without("it raises a general protection fault".to_owned());
            }
            Err(Verdict::Unknown) => without("the processor rejects it".to_owned()),
            Err(Verdict::Refused(why) | Verdict::Other(why)) => without(why),
        }
        false
    }
}

/// Bit of the AVX component, the upper halves of the ymm registers (Intel SDM volume 1, 13.1).
const AVX: u64 = 1 << 2;
/// Of so many cases, one may be unsteady: what disturbs them comes in bursts.
const STEADY: u64 = 100;
/// How often such a case is done again.
const TRIES: u32 = 50;

/// Whether what an instruction writes depends on which components are in use (SDM volume 1, 13.6).
/// The processor decides that, and a switch to another thread may change it between two executions
/// of a case; a real mistake is one the next time, too.
fn saves_state(code: Code) -> bool {
    format!("{code:?}").starts_with("Xsave")
}

/// Whether an instruction loads fs, through which libc finds a thread's own data.
fn loads_fs(instruction: &Instruction) -> bool {
    let loads = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Pop);
    instruction.mnemonic() == Mnemonic::Lfs || loads && instruction.op0_register() == Register::FS
}

impl Tally {
    /// Prints what was found; true if nothing is wrong and enough forms were covered.
    pub(crate) fn report(&self, part: Part, forms: &Forms, all: bool) -> bool {
        let supported = forms.supported.len();
        let covered = self.right.len();
        let share = 100.0 * covered as f64 / supported as f64;
        println!("{}:", part.name());
        println!(
            "  forms       {supported} of 64-bit user mode with a memory operand on this processor; \
             {} more of extensions that it lacks",
            forms.others
        );
        println!("  covered     {covered} ({share:.2} %)");
        println!("  cases       {}", self.cases);
        if self.unsteady > 0 {
            println!(
                "  unsteady    {} of them: the components in use changed; right when done again",
                self.unsteady
            );
        }
        println!(
            "  copies      {} cases go on by a displaced copy",
            self.copies
        );
        for (why, count) in &self.steps {
            println!("  stepped     {count} cases: {why}");
        }
        println!("  mismatches  {}", self.wrong.len());
        for (form, what, case) in self.wrong.iter().take(20) {
            println!("    {form}: {what}\n      {case}");
        }
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for code in &forms.supported {
            if self.right.contains_key(code) {
                continue;
            }
            let reasons = self.without.get(code);
            let most = reasons.and_then(|all| all.iter().max_by_key(|(_, count)| **count));
            let why = most.map_or("no case was run", |(why, _)| why);
            missing.entry(why).or_default().push(format!("{code:?}"));
        }
        if all {
            for (why, forms) in &missing {
                println!(
                    "  not covered {}: {why}\n    {}",
                    forms.len(),
                    forms.join(" ")
                );
            }
        }
        let steady = self.unsteady * STEADY <= self.cases.max(STEADY);
        self.wrong.is_empty()
            && steady
            && (!all || share >= WANTED || supported - covered <= LEFT_OUT)
    }
}
