//! One Rust file as the checks see it: its text, its tokens in a row, and which of its lines are tests.
//!
//! The checks read tokens rather than the syntax tree, because tokens also reach into macro calls. Comments and the
//! insides of literals are no tokens, so a name in prose or in a string is never taken for code.

use std::ops::RangeInclusive;

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, Meta};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or a keyword.
    Word(String),
    /// One character of an operator.
    Mark(char),
    /// An opening bracket.
    Open(Delimiter),
    /// A closing bracket.
    Close(Delimiter),
    /// A literal; doc comments are literals too.
    Literal,
}

/// A token and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) line: usize,
}

impl Token {
    /// The name or keyword, if it is one.
    pub(crate) fn word(&self) -> Option<&str> {
        match &self.kind {
            Kind::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Whether it is the given character of an operator.
    pub(crate) fn is_mark(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// A Rust file of the repository.
pub(crate) struct Source {
    /// Path from the top of the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) syntax: syn::File,
    pub(crate) tokens: Vec<Token>,
    structure: Structure,
    literal_lines: Vec<RangeInclusive<usize>>,
}

impl Source {
    /// Parses `text`; the error is the line and the parser's message.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Self, (usize, String)> {
        let stream: TokenStream = text
            .parse()
            .map_err(|error: proc_macro2::LexError| (error.span().start().line, error.to_string()))?;
        let syntax: syn::File =
            syn::parse2(stream.clone()).map_err(|error| (error.span().start().line, error.to_string()))?;
        let mut structure = Structure { is_test: in_test_folder(path), ..Structure::default() };
        structure.is_test |= syntax.attrs.iter().any(is_test_attribute);
        structure.visit_file(&syntax);
        let (mut tokens, mut literal_lines) = (Vec::new(), Vec::new());
        flatten(stream, &mut tokens, &mut literal_lines);
        Ok(Self { path: path.to_owned(), text: text.to_owned(), syntax, tokens, structure, literal_lines })
    }

    /// Makes the whole file a test, because another file declares it as one.
    pub(crate) fn set_test(&mut self) {
        self.structure.is_test = true;
    }

    /// Whether the line is compiled for tests only.
    pub(crate) fn is_test(&self, line: usize) -> bool {
        self.structure.is_test || self.structure.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// Whether the line begins inside a literal that began on an earlier one.
    pub(crate) fn is_in_literal(&self, line: usize) -> bool {
        self.literal_lines.iter().any(|lines| lines.contains(&line))
    }

    /// The folder of the package, if the file is part of a package's source.
    pub(crate) fn package(&self) -> Option<&str> {
        self.path.split_once("/src/").map(|(package, _)| package)
    }

    /// The path below `src`, if the file is part of a package's source.
    pub(crate) fn path_in_src(&self) -> Option<&str> {
        self.path.split_once("/src/").map(|(_, below)| below)
    }

    /// The module the file holds, as a path from the crate's root.
    pub(crate) fn module(&self) -> Vec<String> {
        module_of(self.path_in_src().unwrap_or_default())
    }

    /// The module that the line stands in, inline modules included.
    pub(crate) fn module_at(&self, line: usize) -> Vec<String> {
        let inline = self.structure.inline_modules.iter().filter(|(lines, _)| lines.contains(&line));
        self.module().into_iter().chain(inline.map(|(_, name)| name.clone())).collect()
    }

    /// The modules that this file declares for tests only and that live in files of their own.
    pub(crate) fn test_modules(&self) -> impl Iterator<Item = Vec<String>> + '_ {
        self.structure.test_modules.iter().map(|(line, name)| {
            let mut module = self.module_at(*line);
            module.push(name.clone());
            module
        })
    }

    /// Whether the tokens from `at` on spell `::`.
    pub(crate) fn is_path_separator(&self, at: usize) -> bool {
        [at, at + 1].iter().all(|at| self.tokens.get(*at).is_some_and(|token| token.is_mark(':')))
    }

    /// The tokens that stand outside of tests, with their places in the row.
    pub(crate) fn tokens_of_product(&self) -> impl Iterator<Item = (usize, &Token)> {
        self.tokens.iter().enumerate().filter(|(_, token)| !self.is_test(token.line))
    }
}

/// Where the parts of a file begin and end that a row of tokens does not show.
#[derive(Debug, Default)]
struct Structure {
    is_test: bool,
    test_lines: Vec<RangeInclusive<usize>>,
    inline_modules: Vec<(RangeInclusive<usize>, String)>,
    test_modules: Vec<(usize, String)>,
}

impl Structure {
    fn note(&mut self, attributes: &[Attribute], node: &impl Spanned) {
        if attributes.iter().any(is_test_attribute) {
            self.test_lines.push(lines_of(node));
        }
    }
}

impl<'ast> Visit<'ast> for Structure {
    fn visit_item(&mut self, item: &'ast Item) {
        self.note(attributes(item), item);
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        let name = module.ident.to_string();
        if module.content.is_some() {
            self.inline_modules.push((lines_of(module), name));
        } else if module.attrs.iter().any(is_test_attribute) {
            self.test_modules.push((module.ident.span().start().line, name));
        }
        visit::visit_item_mod(self, module);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.attrs, function);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.note(&field.attrs, field);
        visit::visit_field(self, field);
    }
}

/// The lines a piece of syntax covers, its attributes included.
pub(crate) fn lines_of(node: &impl Spanned) -> RangeInclusive<usize> {
    let span = node.span();
    span.start().line..=span.end().line
}

/// The module a file below `src` holds: `a/b.rs` and `a/b/mod.rs` are `a::b`; the roots of crates are empty.
pub(crate) fn module_of(path_in_src: &str) -> Vec<String> {
    let stem = path_in_src.strip_suffix(".rs").unwrap_or(path_in_src);
    let mut parts: Vec<String> = stem.split('/').map(str::to_owned).collect();
    let root = parts.len() == 1;
    if parts.last().is_some_and(|last| last == "mod" || (root && (last == "lib" || last == "main"))) {
        parts.pop();
    }
    parts
}

/// Folders whose files are tests by cargo's own rules.
fn in_test_folder(path: &str) -> bool {
    !path.contains("/src/") && path.split('/').any(|part| matches!(part, "tests" | "benches" | "fuzz"))
}

/// Whether the attribute is `test`, or a `cfg` that holds in tests only.
fn is_test_attribute(attribute: &Attribute) -> bool {
    match &attribute.meta {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("cfg") => {
            let condition: String = list.tokens.to_string().split_whitespace().collect();
            condition == "test" || condition.starts_with("all(test,")
        }
        _ => false,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn flatten(stream: TokenStream, tokens: &mut Vec<Token>, literal_lines: &mut Vec<RangeInclusive<usize>>) {
    for tree in stream {
        let (first, last) = (tree.span().start().line, tree.span().end().line);
        match tree {
            TokenTree::Group(group) => {
                let delimiter = group.delimiter();
                tokens.push(Token { kind: Kind::Open(delimiter), line: first });
                flatten(group.stream(), tokens, literal_lines);
                tokens.push(Token { kind: Kind::Close(delimiter), line: last });
            }
            TokenTree::Ident(word) => tokens.push(Token { kind: Kind::Word(word.to_string()), line: first }),
            TokenTree::Punct(mark) => tokens.push(Token { kind: Kind::Mark(mark.as_char()), line: first }),
            TokenTree::Literal(_) => {
                if last > first {
                    literal_lines.push(first + 1..=last);
                }
                tokens.push(Token { kind: Kind::Literal, line: first });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("ringline-core/src/conn/phase.rs", text).expect("the snippet parses")
    }

    #[test]
    fn knows_the_module_of_a_path() {
        assert!(module_of("lib.rs").is_empty());
        assert_eq!(module_of("conn/mod.rs"), ["conn"]);
        assert_eq!(module_of("conn/phase.rs"), ["conn", "phase"]);
        assert_eq!(module_of("conn/main.rs"), ["conn", "main"]);
    }

    #[test]
    fn finds_test_lines_in_every_shape() {
        let file = source(
            "fn a() {}\n#[cfg(test)]\nmod tests {\n}\n#[test]\nfn b() {}\n#[cfg(all(test, unix))]\nuse x::y;\n",
        );
        let lines: Vec<bool> = (1..=8).map(|line| file.is_test(line)).collect();
        assert_eq!(lines, [false, true, true, true, true, true, true, true]);
        assert!(!source("#[cfg(any(test, unix))]\nfn a() {}\n").is_test(2));
        assert!(!source("#[cfg(not(test))]\nfn a() {}\n").is_test(2));
        assert!(source("#![cfg(test)]\nfn a() {}\n").is_test(2));
    }

    #[test]
    fn names_inline_and_test_modules() {
        let file =
            source("mod inner {\n    #[cfg(test)]\n    mod late;\n}\n#[cfg(test)]\nmod tests;\nmod plain;\n");
        assert_eq!(file.module_at(2), ["conn", "phase", "inner"]);
        let modules: Vec<_> = file.test_modules().collect();
        assert_eq!(modules, [vec!["conn", "phase", "inner", "late"], vec!["conn", "phase", "tests"]]);
    }

    #[test]
    fn tells_code_from_literals() {
        let file = source("const A: &str = r#\"\n// let x = 1;\n\"#;\n// let y = 1;\n");
        assert!(file.is_in_literal(2) && !file.is_in_literal(4));
        assert!(!file.tokens.iter().any(|token| token.word() == Some("x")));
    }

    #[test]
    fn reports_where_parsing_ended() {
        let parsed = Source::parse("a/src/b.rs", "fn a() {}\nfn {}\n");
        assert_eq!(parsed.err().map(|(line, _)| line), Some(2));
    }

    #[test]
    fn reaches_into_macros() {
        let file = source("fn a() { assert!(crate::worker::ready()); }");
        assert!(file.tokens.iter().any(|token| token.word() == Some("worker")));
    }
}
