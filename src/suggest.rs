//! "Did you mean …?"

/// The candidate that a misspelt name is most like, if it is like any.
pub(crate) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let name = name.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(candidate, &name);
    let nearest = candidates.into_iter().min_by_key(|c| distance(c))?;
    let longer = nearest.chars().count().max(name.chars().count());
    (2 * distance(nearest) <= longer).then_some(nearest)
}

/// `; did you mean …?`, or nothing.
pub(crate) fn question(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_names_are_suggested() {
        let names = ["impasto", "gram", "neural-style"];
        assert_eq!(nearest("neural_style", names), Some("neural-style"));
        assert_eq!(nearest("Gram", names), Some("gram"));
        assert_eq!(nearest("garm", names), Some("gram"));
        assert_eq!(nearest("xyz", names), None);
        assert_eq!(nearest("", names), None);
        assert_eq!(nearest("gram", []), None);
    }
}
