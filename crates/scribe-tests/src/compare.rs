//! Comparing outputs and telling where they differ.

use crate::process::End;

/// The text without the lines that Scribe itself wrote.
pub fn without_own_lines(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|b| *b == b'\n');
    lines
        .filter(|l| !l.starts_with(b"scribe: "))
        .flatten()
        .copied()
        .collect()
}

fn shown(line: Option<&[u8]>) -> String {
    let Some(line) = line else {
        return "(end)".into();
    };
    let cut = &line[..line.len().min(200)];
    String::from_utf8_lossy(cut).escape_debug().to_string()
}

/// The first place where two texts differ, or nothing.
pub fn difference(what: &str, a: (&str, &[u8]), b: (&str, &[u8])) -> Option<String> {
    if a.1 == b.1 {
        return None;
    }
    let mut left = a.1.split_inclusive(|b| *b == b'\n');
    let mut right = b.1.split_inclusive(|b| *b == b'\n');
    for number in 1.. {
        let (l, r) = (left.next(), right.next());
        if l != r {
            return Some(format!(
                "{what} differs in line {number} ({} and {} bytes in all)\n  {}: {}\n  {}: {}",
                a.1.len(),
                b.1.len(),
                a.0,
                shown(l),
                b.0,
                shown(r)
            ));
        }
    }
    None
}

/// Whether a recording that ended like this is right for a program that natively ends like that.
/// A signal may show as the signal or, as in a shell, as 128 and its number.
pub fn same_end(native: End, recorded: End) -> bool {
    match native {
        End::Signal(sig) => recorded == native || recorded == End::Exit(128 + sig),
        _ => recorded == native,
    }
}

/// A text for messages: of a long one the beginning, where the first failure is, and the end.
pub fn excerpt(text: &[u8]) -> String {
    const HEAD: usize = 2000;
    const TAIL: usize = 3000;
    let shown = |part: &[u8]| String::from_utf8_lossy(part).trim_end().to_owned();
    if text.len() <= HEAD + TAIL {
        return shown(text);
    }
    let (head, rest) = text.split_at(HEAD);
    let (left, tail) = rest.split_at(rest.len() - TAIL);
    let (head, tail) = (shown(head), shown(tail));
    format!("{head}\n... {} bytes ...\n{tail}", left.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_line() {
        assert_eq!(difference("x", ("a", b"1\n2\n"), ("b", b"1\n2\n")), None);
        let d = difference("x", ("a", b"1\n2\n"), ("b", b"1\n3\n")).unwrap();
        assert!(
            d.contains("line 2") && d.contains("a: 2\\n") && d.contains("b: 3\\n"),
            "{d}"
        );
        let d = difference("x", ("a", b"1\n"), ("b", b"1\n3\n")).unwrap();
        assert!(d.contains("a: (end)"), "{d}");
    }

    #[test]
    fn both_ends_of_long_texts_are_shown() {
        assert_eq!(excerpt(b"short\n"), "short");
        let long = [&b"first\n"[..], &[b'x'; 9000], b"\nlast\n"].concat();
        let shown = excerpt(&long);
        assert!(shown.starts_with("first\nx") && shown.ends_with("x\nlast"));
        assert!(shown.contains("\n... 4012 bytes ...\n"), "{shown}");
    }

    #[test]
    fn own_lines_go() {
        assert_eq!(without_own_lines(b"a\nscribe: b\nc"), b"a\nc");
    }

    #[test]
    fn ends() {
        assert!(same_end(End::Signal(9), End::Exit(137)));
        assert!(!same_end(End::Exit(9), End::Signal(9)));
        assert!(!same_end(End::Exit(0), End::TimedOut));
    }
}
