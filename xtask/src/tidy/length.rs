//! A file is one noun and a function is one thought. Beyond the first limit a length is reported, beyond the second it
//! is an error; functions of tests may be as long as their story.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Block, Signature};

use super::finding::Finding;
use super::source::Source;

const RULE: &str = "length";

/// A length to report, and one to refuse.
#[derive(Clone, Copy, Debug)]
struct Limits {
    report_lines: usize,
    refuse_lines: usize,
}

const FILE: Limits = Limits { report_lines: 500, refuse_lines: 800 };
const FUNCTION: Limits = Limits { report_lines: 70, refuse_lines: 120 };

/// Checks one file and the functions in it.
pub(super) fn check(source: &Source, findings: &mut Vec<Finding>) {
    findings.extend(FILE.judge(&source.path, 1, "the file", source.text.lines().count()));
    let mut functions = Functions { source, findings };
    functions.visit_file(&source.syntax);
}

impl Limits {
    fn judge(self, path: &str, line: usize, what: &str, lines: usize) -> Option<Finding> {
        let Self { report_lines, refuse_lines } = self;
        if lines > refuse_lines {
            Some(Finding::error(
                path,
                line,
                RULE,
                format!("{what} has {lines} lines, at most {refuse_lines}"),
            ))
        } else if lines > report_lines {
            Some(Finding::warning(
                path,
                line,
                RULE,
                format!("{what} has {lines} lines, aim at {report_lines}"),
            ))
        } else {
            None
        }
    }
}

/// Measures functions, from the name's line to the closing brace.
struct Functions<'a> {
    source: &'a Source,
    findings: &'a mut Vec<Finding>,
}

impl Functions<'_> {
    fn measure(&mut self, signature: &Signature, block: &Block) {
        let (first, last) = (signature.span().start().line, block.brace_token.span.close().end().line);
        if !self.source.is_test(first) {
            let what = format!("`{}`", signature.ident);
            self.findings.extend(FUNCTION.judge(&self.source.path, first, &what, last - first + 1));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.measure(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Severity;
    use super::*;

    fn severities(text: &str) -> Vec<Severity> {
        let source = Source::parse("ringline-core/src/op/mod.rs", text).expect("the snippet parses");
        let mut findings = Vec::new();
        check(&source, &mut findings);
        findings.iter().map(|finding| finding.severity).collect()
    }

    #[test]
    fn files_have_two_limits() {
        let file = |lines: usize| "// a\n".repeat(lines);
        assert_eq!(severities(&file(500)), []);
        assert_eq!(severities(&file(501)), [Severity::Warning]);
        assert_eq!(severities(&file(800)), [Severity::Warning]);
        assert_eq!(severities(&file(801)), [Severity::Error]);
    }

    #[test]
    fn functions_have_two_limits_wherever_they_stand() {
        let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        for (before, after) in [("", ""), ("impl A {\n", "}\n"), ("trait A {\n", "}\n"), ("mod a {\n", "}\n")]
        {
            let severities =
                |lines: usize| severities(&format!("{before}/// Doc.\n#[inline]\n{}{after}", body(lines)));
            assert_eq!(severities(70), [], "{before}");
            assert_eq!(severities(71), [Severity::Warning], "{before}");
            assert_eq!(severities(120), [Severity::Warning], "{before}");
            assert_eq!(severities(121), [Severity::Error], "{before}");
        }
        assert_eq!(severities(&format!("#[cfg(test)]\nmod tests {{\n{}}}\n", body(200))), []);
        assert_eq!(severities(&format!("#[test]\n{}", body(200))), []);
    }
}
