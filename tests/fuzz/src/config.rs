//! The configuration file.

use std::sync::LazyLock;

use callfeed::config;

/// A secret that no message may show.
const SECRET: &str = "whsec_bm90LXRvLWJlLXNlZW4tYnktYW55b25lLWF0LWFsbA==";

/// A file of any content.
///
/// It is read or refused with a list of problems, each with a line of the file and on a line of its own; none shows a secret
/// of the environment; and what TOML does not allow is refused.
pub fn config(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    static EMPTY: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::tempdir().expect("there is a place for temporary folders"));
    let environment = |name: &str| (!name.starts_with("UNSET")).then(|| SECRET.to_owned());
    let read = || config::parse(text, "callfeed.toml", &environment, EMPTY.path());
    // What is missing at the end is missing on the line after the last line end.
    let lines = text.matches('\n').count() + 1;
    let problems = match read() {
        Ok(checked) => {
            assert!(toml::from_str::<toml::Table>(text).is_ok());
            assert!(!checked.config.routes.is_empty());
            let shown = format!("{checked:?}");
            assert!(!shown.contains(SECRET) && !shown.contains("not-to-be-seen"), "{shown}");
            let again = read().expect("it was read just now").config;
            // Where both hold a number that is none, they differ from themselves.
            assert_eq!(format!("{again:?}"), format!("{:?}", checked.config));
            checked.warnings
        }
        Err(refused) => {
            assert!(
                refused
                    .problems
                    .iter()
                    .any(|problem| problem.severity == config::Severity::Error)
            );
            let again = read().expect_err("it was refused just now");
            assert_eq!(again.problems, refused.problems);
            refused.problems.iter().cloned().collect()
        }
    };
    for problem in problems {
        let said = problem.to_string();
        assert!(problem.line <= lines, "{said}");
        assert!(
            !problem.message.is_empty() && !said.chars().any(char::is_control),
            "{said:?}"
        );
        assert!(!said.contains(SECRET), "{said}");
    }
}
