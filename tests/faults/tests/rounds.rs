//! A few rounds, so that every run of the tests plays some. `callfeed-faults --duration 8h` plays many.

use std::process::Command;

#[test]
fn nothing_accepted_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_callfeed-faults"))
        .args(["--rounds", "2", "--seed", "2026", "--dir"])
        .arg(directory.path())
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
    assert!(text.contains("nothing was lost"), "{text}");
}
