//! The paths that this room answers itself.

use http::Method;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Op {
    DeclareRun,
    ListRuns,
    ShowRun,
    Heartbeat,
    EndRun,
    MoveStep,
    ShowStep,
    Ask,
    ListApprovals,
    ShowApproval,
    Decide,
    Events,
    Document,
}

/// Every path, as it stands in the `OpenAPI` document.
pub(crate) const ROUTES: [(Method, &str, Op); 13] = [
    (Method::POST, "/v1/runs", Op::DeclareRun),
    (Method::GET, "/v1/runs", Op::ListRuns),
    (Method::GET, "/v1/runs/{run}", Op::ShowRun),
    (Method::POST, "/v1/runs/{run}/heartbeat", Op::Heartbeat),
    (Method::POST, "/v1/runs/{run}/end", Op::EndRun),
    (Method::PUT, "/v1/runs/{run}/steps/{step}", Op::MoveStep),
    (Method::GET, "/v1/runs/{run}/steps/{step}", Op::ShowStep),
    (Method::POST, "/v1/approvals", Op::Ask),
    (Method::GET, "/v1/approvals", Op::ListApprovals),
    (Method::GET, "/v1/approvals/{id}", Op::ShowApproval),
    (Method::POST, "/v1/approvals/{id}/decide", Op::Decide),
    (Method::GET, "/v1/events", Op::Events),
    (Method::GET, "/v1/openapi.json", Op::Document),
];

/// What is asked for, and the parts of the path that stand for `{..}`.
pub(crate) fn find(method: &Method, segments: &[String]) -> Option<(Op, Vec<String>)> {
    ROUTES
        .iter()
        .filter(|route| route.0 == *method)
        .find_map(|(_, template, op)| Some((*op, fit(template, segments)?)))
}

/// The parts of a path that stand for the template's `{..}`; `None` = it is another path. A part that
/// is empty stands for nothing.
pub(crate) fn fit(template: &str, segments: &[String]) -> Option<Vec<String>> {
    let wanted: Vec<&str> = template.strip_prefix("/v1/")?.split('/').collect();
    if wanted.len() != segments.len() {
        return None;
    }
    let mut names = Vec::new();
    for (wanted, found) in wanted.into_iter().zip(segments) {
        if wanted.starts_with('{') && !found.is_empty() {
            names.push(found.clone());
        } else if wanted != found {
            return None;
        }
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(path: &str) -> Vec<String> {
        path.split('/').map(str::to_owned).collect()
    }

    #[test]
    fn paths_are_told_apart() {
        let found = find(&Method::PUT, &parts("runs/a/steps/b"));
        let names = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(found, Some((Op::MoveStep, names)));
        assert_eq!(
            find(&Method::POST, &parts("runs")),
            Some((Op::DeclareRun, Vec::new()))
        );
        for path in [
            "runs/",
            "runs/a/steps/",
            "runs//steps/b",
            "runs/a/steps",
            "runs/a/b",
            "run",
            "",
        ] {
            assert_eq!(find(&Method::GET, &parts(path)), None, "{path}");
        }
        assert_eq!(find(&Method::DELETE, &parts("runs")), None);
    }
}
