//! Rust source as words and signs: enough to see who names whom.

/// Words, signs and `::`, without comments, texts, characters and lifetimes.
pub fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let (mut found, mut i) = (Vec::new(), 0);
    while i < chars.len() {
        match (at(i), at(i + 1)) {
            ('/', '/') => i = past(&chars, i, "\n"),
            ('/', '*') => i = past(&chars, i + 2, "*/"),
            ('r', '"' | '#') if !(at(i + 1) == '#' && is_word(at(i + 2))) => {
                let hashes = chars[i + 1..].iter().take_while(|c| **c == '#').count();
                i = past(&chars, i + 2 + hashes, &format!("\"{}", "#".repeat(hashes)));
            }
            ('"', _) => i = quoted(&chars, i + 1),
            // A character, or the name of a lifetime.
            ('\'', '\\') => i = past(&chars, i + 3, "'"),
            ('\'', _) if at(i + 2) == '\'' => i += 3,
            ('\'', _) => i += 1 + chars[i + 1..].iter().take_while(|c| is_word(**c)).count(),
            (':', ':') => {
                found.push("::".to_owned());
                i += 2;
            }
            (c, _) if is_word(c) => {
                let word: String = chars[i..].iter().take_while(|c| is_word(**c)).collect();
                i += word.chars().count();
                found.push(word);
            }
            (c, _) => {
                if !c.is_whitespace() {
                    found.push(c.to_string());
                }
                i += 1;
            }
        }
    }
    found
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The place after the next `end`.
fn past(chars: &[char], from: usize, end: &str) -> usize {
    let end: Vec<char> = end.chars().collect();
    let found = (from..chars.len()).find(|i| chars[*i..].starts_with(&end));
    found.map_or(chars.len(), |i| i + end.len())
}

/// The place after a text that began before `i`.
fn quoted(chars: &[char], mut i: usize) -> usize {
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The place after the bracket that closes the one at `open`.
pub fn closed(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "{" | "[" | "(" => depth += 1,
            "}" | "]" | ")" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// The same without modules of unit tests, which may use anything.
pub fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mark: Vec<String> = ["#", "[", "cfg", "(", "test", ")", "]"].map(str::to_owned).to_vec();
    let (mut kept, mut i) = (Vec::new(), 0);
    while i < tokens.len() {
        if !tokens[i..].starts_with(&mark) {
            kept.push(tokens[i].clone());
            i += 1;
            continue;
        }
        i += mark.len();
        // Its other attributes, and what it is: a module with a body, or something that ends by a semicolon.
        while tokens.get(i).is_some_and(|t| t == "#") {
            i = closed(&tokens, i + 1);
        }
        while tokens.get(i).is_some_and(|t| t != "{" && t != ";") {
            i += 1;
        }
        i = if tokens.get(i).is_some_and(|t| t == "{") { closed(&tokens, i) } else { i + 1 };
    }
    kept
}
