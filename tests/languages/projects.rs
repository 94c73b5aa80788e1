//! A new project builds and passes as it is.

use std::path::Path;

use harness::Callfeed;

use crate::{built, right};

async fn new_project_is_right(language: &str) {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let project = directory.path().join("acme-calls");
    let new = |project: &Path| {
        let directory = project.to_str().expect("the path is text").to_owned();
        async move { Callfeed::run(["plugin", "new", "acme-calls", "--lang", language, "--dir", &directory]).await }
    };
    let said = new(&project).await.success();
    assert!(
        said.contains("callfeed plugin build") && said.contains("callfeed plugin test ."),
        "{said}"
    );
    let again = new(&project).await;
    assert_eq!(again.status, Some(1));
    assert!(
        again.stderr.contains("is there already; nothing was written"),
        "{}",
        again.stderr
    );

    let project = built(&format!("new-{language}"), &project).await;
    let file = project.join("acme-calls.wasm");
    let inspect = [
        "plugin".as_ref(),
        "inspect".as_ref(),
        file.as_os_str(),
        "--json".as_ref(),
    ];
    let inspected = Callfeed::run(inspect).await.json_lines().remove(0);
    let cases = std::fs::read_dir(project.join("cases")).expect("it has cases");
    let folders = cases.filter(|entry| entry.as_ref().is_ok_and(|entry| entry.path().is_dir()));
    assert_eq!(inspected["cases"], folders.count(), "it carries its cases");
    right(&project).await;
}

#[tokio::test]
async fn a_new_project_in_rust_is_right() {
    new_project_is_right("rust").await;
}

#[tokio::test]
async fn a_new_project_in_javascript_is_right() {
    new_project_is_right("javascript").await;
}

#[tokio::test]
async fn a_new_project_in_python_is_right() {
    new_project_is_right("python").await;
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let output = Callfeed::run(["plugin", "new", "Acme Calls", "--lang", "rust"]).await;
    assert_eq!(output.status, Some(1));
    assert!(
        output.stderr.contains(r#""Acme Calls" is no name for a plugin"#),
        "{}",
        output.stderr
    );
}
