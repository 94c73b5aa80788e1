//! A few rounds, so that every run of the tests plays some. `callfeed-faults --duration 8h` plays many.

use std::process::Command;

use serde_json::Value;

fn faults(args: &[&str], directory: &tempfile::TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_callfeed-faults"));
    command.args(args).arg("--dir").arg(directory.path());
    command
}

#[test]
fn nothing_accepted_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let output = faults(&["--rounds", "2", "--seed", "5", "--json"], &directory)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // Store and logs stay for whoever looks into it.
        let kept = directory.keep();
        panic!(
            "{text}{}\nkept in {}",
            String::from_utf8_lossy(&output.stderr),
            kept.display()
        );
    }
    let total: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(total["failed_seeds"], serde_json::json!([]));
    // Nothing would be lost, either, where nothing went wrong or nothing came in. A tenth of what a busy machine does.
    for (what, least) in [
        ("rounds", 2),
        ("kills", 4),
        ("power_cuts", 2),
        ("replays", 1),
        ("erasures", 2),
        ("erased", 2),
        ("webhooks_accepted", 50),
        ("events", 30),
        ("deliveries_taken", 100),
    ] {
        assert!(
            total[what].as_u64() >= Some(least),
            "{what} are fewer than {least}: {text}"
        );
    }
}

#[test]
fn a_run_that_proves_nothing_fails() {
    let directory = tempfile::tempdir().unwrap();
    let output = faults(&["--rounds", "0"], &directory).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{text}");
    assert!(text.contains("nothing was accepted, so nothing is proven"), "{text}");
}
