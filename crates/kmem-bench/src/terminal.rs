//! Lines that fit a terminal.

/// The text in lines of at most `width` characters, where its words allow; lines but the first are indented.
pub fn wrapped(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let continued = lines.len() > 1 || !lines[0].is_empty();
        let last = lines.len() - 1;
        let line = &mut lines[last];
        if continued && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(format!("{:indent$}{word}", ""));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_kept() {
        assert_eq!(wrapped("a bc def", 4, 2), ["a bc", "  def"]);
        assert_eq!(wrapped("unbreakable x", 4, 2), ["unbreakable", "  x"]);
        assert_eq!(wrapped("", 4, 2), [""]);
        assert_eq!(wrapped("a b c", usize::MAX, 2), ["a b c"]);
    }
}
