//! Rust sources without comments and literals, so that a rule judges what a line does and not what it says.

/// `source` with comments, strings and character literals blanked; line breaks stay where they are.
pub(crate) fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let inert = inert_length(rest);
        let taken = if inert == 0 { first.len_utf8() } else { inert };
        let (head, tail) = rest.split_at(taken.min(rest.len()));
        if inert == 0 {
            code.push(first);
        } else {
            code.extend(head.chars().map(|c| if c == '\n' { c } else { ' ' }));
        }
        rest = tail;
    }
    code
}

/// Bytes at the start of `rest` that are a comment, a string or a character literal; 0 where code begins.
fn inert_length(rest: &str) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    if let Some(raw) = rest.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let is_raw_string = raw[hashes..].starts_with('"');
        return if is_raw_string {
            let end = format!("\"{}", "#".repeat(hashes));
            let opening = 1 + hashes + 1;
            let body = &rest[opening..];
            body.find(&end)
                .map_or(rest.len(), |at| opening + at + end.len())
        } else {
            0
        };
    }
    if rest.starts_with('"') {
        return quoted_length(rest, '"');
    }
    // An apostrophe begins a character if another one follows it closely; otherwise a lifetime.
    let mut after = rest.chars().skip(1);
    let (second, third) = (after.next(), after.next());
    if rest.starts_with('\'') && (second == Some('\\') || third == Some('\'')) {
        return quoted_length(rest, '\'');
    }
    0
}

/// Bytes of the literal that `rest` begins with, both quotation marks included.
fn quoted_length(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if !escaped && c == mark {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    rest.len()
}

#[test]
fn code_is_told_from_comments_and_literals() {
    let cases = [
        ("a // b\nc", "a     \nc"),
        ("a /* b\nc */ d", "a     \n     d"),
        ("f(\"x \\\" y\", z)", "f(        , z)"),
        ("f(r#\"a \" b\"#, z)", "f(          , z)"),
        ("f('\"', '\\'', z)", "f(   ,     , z)"),
        ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
        ("for r in 0..3 {}", "for r in 0..3 {}"),
    ];
    for (source, code) in cases {
        assert_eq!(code_only(source), code, "{source}");
    }
}
