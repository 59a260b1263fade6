use std::sync::Arc;
use ffitrace_tests::suite::Suite;
use crate::ground::Ground;
pub(crate) fn add(_: &mut Suite, _: &Arc<Ground>) {}
