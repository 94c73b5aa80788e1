//! The texts that Magnétis may have signed. They glue keys and values without a mark, so that one text can stand for
//! several bodies; of those only one may be believed.

use native_magnetis::canonical::{Message, Recipe, Variables};
use serde_json::Value;

/// A body, JSON or a form, whose signature somebody has seen.
///
/// Of it others are made that could have the same message: a variable's name and value become the end of the value before
/// it. None of them may be taken where the body is, nor for a message of another kind.
pub fn canonical(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    if text.trim_ascii_start().starts_with('{') {
        forge_json(text);
    } else {
        let pairs: Vec<_> = form_urlencoded::parse(input).into_owned().collect();
        forge_form(&pairs);
    }
}

fn forge_json(text: &str) {
    let all = messages(&Variables::of_json(text), text);
    // As it is written the other bodies are written, too; a key that came twice is refused.
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(
            all.iter()
                .all(|(recipe, _, believed)| !believed || recipe.is_verbatim())
        );
        return;
    };
    let body = value.to_string();
    let believed = believed(&Variables::of_json(&body), &body);
    for forged in merged(&value) {
        let forged = forged.to_string();
        assert_apart(
            &believed,
            &self::believed(&Variables::of_json(&forged), &forged),
            &forged,
        );
    }
}

fn forge_form(pairs: &[(String, String)]) {
    let body = |pairs: &[(String, String)]| {
        let mut body = form_urlencoded::Serializer::new(String::new());
        body.extend_pairs(pairs).finish()
    };
    let variables = |pairs: &[(String, String)]| -> Vec<(Recipe, String)> {
        let flat = pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        believed(&Variables::of_form(flat), &body(pairs))
    };
    let believed = variables(pairs);
    let mut order: Vec<usize> = (0..pairs.len()).collect();
    order.sort_by(|left, right| pairs[*left].0.cmp(&pairs[*right].0));
    for next in order.windows(2) {
        let (name, value) = &pairs[next[1]];
        // The whole name, or as much of it as is glued where every depth is.
        let last = name.trim_end_matches(']').rsplit('[').next().unwrap_or(name);
        for glued in [name.as_str(), last] {
            let mut forged = pairs.to_vec();
            forged[next[0]].1 = format!("{}{glued}{value}", forged[next[0]].1);
            forged.remove(next[1]);
            assert_apart(&believed, &variables(&forged), &body(&forged));
        }
    }
}

fn assert_apart(believed: &[(Recipe, String)], forged: &[(Recipe, String)], body: &str) {
    for (recipe, message) in forged {
        for (known, seen) in believed {
            assert_ne!(message, seen, "{recipe:?}, seen as {known:?}: {body}");
        }
    }
}

/// The messages for which a body would be believed.
fn believed(variables: &Variables<'_>, body: &str) -> Vec<(Recipe, String)> {
    let all = messages(variables, body).into_iter();
    all.filter(|(_, _, believed)| *believed)
        .map(|(recipe, message, _)| (recipe, message))
        .collect()
}

/// Every message of a body, and whether it would be believed for it.
fn messages(variables: &Variables<'_>, body: &str) -> Vec<(Recipe, String, bool)> {
    const URL: &str = "https://gw.example.com/hooks/magnetis/acme";
    let bound = Recipe::ALL.into_iter().filter(|recipe| recipe.binds_body());
    let message = |recipe: Recipe| {
        let text = match recipe.message(variables)? {
            Message::UrlThen(rest) => format!("{URL}{rest}"),
            Message::UrlThenBody => format!("{URL}{body}"),
            Message::Body => body.to_owned(),
        };
        Some((recipe, text, variables.check_shape(recipe).is_ok()))
    };
    bound.filter_map(message).collect()
}

/// A document again and again, each time with one member, or item of a list, glued to the end of the text before it.
fn merged(document: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    leaves(document, &mut Vec::new(), &mut places);
    let mut forged = Vec::new();
    for pair in places.windows(2) {
        let [(before, text), (place, value)] = pair else {
            continue;
        };
        let Value::String(text) = text else { continue };
        let value = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(true) => "1".to_owned(),
            Value::Bool(false) | Value::Null => String::new(),
            Value::Array(_) | Value::Object(_) => continue,
        };
        // What the message has between the two: the steps in which the places differ, with the lists' numbers or without.
        let common = before
            .iter()
            .zip(place)
            .take_while(|(left, right)| left == right)
            .count();
        let steps = &place[common..];
        let glued: [String; 3] = [
            steps.concat(),
            steps
                .iter()
                .filter(|step| step.parse::<usize>().is_err())
                .map(String::as_str)
                .collect(),
            format!(
                "{}{}",
                place[0],
                place[1..].iter().map(|step| format!("[{step}]")).collect::<String>()
            ),
        ];
        for glue in glued {
            let mut copy = document.clone();
            remove(&mut copy, place);
            if let Some(at) = find(&mut copy, before) {
                *at = Value::String(format!("{text}{glue}{value}"));
                forged.push(copy);
            }
        }
    }
    forged
}

/// Every scalar with the steps to it, in the order of their keys.
fn leaves(value: &Value, steps: &mut Vec<String>, found: &mut Vec<(Vec<String>, Value)>) {
    let inner: Vec<(String, &Value)> = match value {
        Value::Object(members) => {
            let mut inner: Vec<_> = members.iter().map(|(key, value)| (key.clone(), value)).collect();
            inner.sort_by(|(left, _), (right, _)| left.cmp(right));
            inner
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(at, item)| (at.to_string(), item))
            .collect(),
        scalar => return found.push((steps.clone(), scalar.clone())),
    };
    for (step, value) in inner {
        steps.push(step);
        leaves(value, steps, found);
        steps.pop();
    }
}

fn find<'v>(value: &'v mut Value, steps: &[String]) -> Option<&'v mut Value> {
    steps.iter().try_fold(value, |value, step| match value {
        Value::Object(members) => members.get_mut(step),
        Value::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Takes a scalar away, and what is empty without it.
fn remove(document: &mut Value, steps: &[String]) {
    let Some((last, outer)) = steps.split_last() else {
        return;
    };
    let is_empty = match find(document, outer) {
        Some(Value::Object(members)) => {
            members.remove(last);
            members.is_empty()
        }
        Some(Value::Array(items)) => {
            let at = last.parse::<usize>().unwrap_or_default();
            if at < items.len() {
                items.remove(at);
            }
            items.is_empty()
        }
        _ => false,
    };
    if is_empty {
        remove(document, outer);
    }
}
