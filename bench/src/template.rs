//! Fills the configurations of the subjects: `{{name}}` is replaced, a block from a line `{{each route}}` to a line
//! `{{end}}` is repeated with `{{index}}` counting from 0.
//!
//! The templates are whole configuration files that one can read (`bench/peers/`), so that anybody can judge whether
//! a peer was treated fairly; nothing is decided in them.

/// Fills a template.
///
/// # Errors
///
/// Names a placeholder without a value, or a block without its end.
pub fn fill(template: &str, values: &[(&str, &str)], routes: usize) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    let mut lines = template.split_inclusive('\n');
    while let Some(line) = lines.next() {
        if line.trim() != "{{each route}}" {
            replace(line, values, &mut out)?;
            continue;
        }
        let mut block = String::new();
        loop {
            let line = lines.next().ok_or("{{each route}} without {{end}}")?;
            if line.trim() == "{{end}}" {
                break;
            }
            block.push_str(line);
        }
        for index in 0..routes {
            let index = index.to_string();
            let with_index: Vec<_> = values.iter().copied().chain([("index", index.as_str())]).collect();
            replace(&block, &with_index, &mut out)?;
        }
    }
    Ok(out)
}

fn replace(text: &str, values: &[(&str, &str)], out: &mut String) -> Result<(), String> {
    let mut rest = text;
    while let Some(start) = rest.find("{{") {
        let (before, after) = rest.split_at(start);
        let end = after.find("}}").ok_or_else(|| format!("`{{{{` without `}}}}` in `{}`", text.trim()))?;
        let name = after[2..end].trim();
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| format!("no value for `{name}`"))?;
        out.push_str(before);
        out.push_str(value);
        rest = &after[end + 2..];
    }
    out.push_str(rest);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filling() {
        let values = [("listen", "127.0.0.1:1"), ("origin", "127.0.0.1:2")];
        let check = |template: &str, routes: usize, expected: Result<&str, &str>| {
            let got = fill(template, &values, routes);
            assert_eq!(got.as_deref().map_err(String::as_str), expected, "{template:?}");
        };
        check("plain { text } $1\n", 0, Ok("plain { text } $1\n"));
        check("a {{listen}} {{ origin }}", 0, Ok("a 127.0.0.1:1 127.0.0.1:2"));
        check(
            "{{each route}}\nr{{index}} {{listen}}\n{{end}}\nz",
            2,
            Ok("r0 127.0.0.1:1\nr1 127.0.0.1:1\nz"),
        );
        check("{{each route}}\nr\n{{end}}\n", 0, Ok(""));
        check("{{nothing}}", 0, Err("no value for `nothing`"));
        check("{{each route}}\nr", 1, Err("{{each route}} without {{end}}"));
        check("{{listen", 0, Err("`{{` without `}}` in `{{listen`"));
    }
}
