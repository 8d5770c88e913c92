//! Resolves every path of the crate's sources to what it names, through imports, renames, globs and re-exports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::visit::{self, Visit};

/// A path, segment by segment; that of a module begins below the crate.
pub type Segments = Vec<String>;

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// A module or item of this crate, below the crate.
    Own(Segments),
    /// Something of another crate, whose name comes first.
    Foreign(Segments),
}

impl Named {
    pub fn text(&self) -> String {
        match self {
            Self::Own(path) => format!("crate::{}", path.join("::")),
            Self::Foreign(path) => path.join("::"),
        }
    }
}

/// Something that a source file mentions.
#[derive(Clone, Debug)]
pub struct Mention {
    /// The module in which it stands.
    pub module: Segments,
    pub line: usize,
    pub what: What,
    /// The name that a `use` of this path gives to it; empty for all names at once.
    pub import: Option<String>,
}

#[derive(Clone, Debug)]
pub enum What {
    Path(Segments),
    Async,
}

/// A source file with all that it mentions.
#[derive(Debug)]
pub struct Source {
    pub file: PathBuf,
    pub module: Segments,
    pub mentions: Vec<Mention>,
}

#[derive(Debug, Default)]
struct Module {
    /// Imports and re-exports, by the name that they have here. Several functions may each have one of that name.
    imports: BTreeMap<String, Vec<Segments>>,
    globs: Vec<Segments>,
    items: BTreeSet<String>,
}

/// All modules of a crate.
#[derive(Debug, Default)]
pub struct Modules {
    modules: BTreeMap<Segments, Module>,
    pub sources: Vec<Source>,
}

/// Chains of imports are followed no further than this, in case they go in a circle.
const LONGEST_CHAIN: usize = 16;

const PRIMITIVES: [&str; 17] = [
    "bool", "char", "str", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32",
    "u64", "u128", "usize",
];

impl Modules {
    /// Reads all sources below a folder; `lib.rs` is the crate.
    pub fn read(root: &Path) -> Self {
        let mut modules = Self::default();
        for file in rust_files(root) {
            let text = fs::read_to_string(&file).expect("a source file is readable");
            let below = file.strip_prefix(root).expect("it was found there").with_extension("");
            let mut module: Segments = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if module.last().is_some_and(|last| last == "mod") || module == ["lib"] {
                module.pop();
            }
            if module != ["main"] {
                modules.add(file, module, &text);
            }
        }
        modules
    }

    /// Adds the text of a module.
    pub fn add(&mut self, file: PathBuf, module: Segments, text: &str) {
        let parsed = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        if let Some((name, parent)) = module.split_last() {
            self.modules.entry(parent.to_vec()).or_default().items.insert(name.clone());
        }
        let mut reading =
            Reading { modules: &mut self.modules, module: module.clone(), mentions: Vec::new() };
        reading.visit_file(&parsed);
        let mentions = reading.mentions;
        self.sources.push(Source { file, module, mentions });
    }

    /// Forgets a file that was added.
    pub fn remove(&mut self, file: &str) {
        let (gone, kept) = std::mem::take(&mut self.sources)
            .into_iter()
            .partition::<Vec<_>, _>(|source| source.file == Path::new(file));
        self.sources = kept;
        for source in gone {
            self.modules.retain(|module, _| !module.starts_with(&source.module));
        }
    }

    /// Everything that a path can name where it stands in `module`. Empty: a local name, or one of the prelude.
    pub fn resolve(&self, mention: &Mention, path: &[String]) -> BTreeSet<Named> {
        let mut found = BTreeSet::new();
        self.follow(&mention.module, path, mention.import.as_deref(), 0, &mut found);
        found
    }

    /// `import` is the name of the import whose path this is, which does not lead to itself.
    fn follow(
        &self,
        module: &[String],
        path: &[String],
        import: Option<&str>,
        depth: usize,
        found: &mut BTreeSet<Named>,
    ) {
        let Some((first, rest)) = path.split_first() else { return };
        let from = |base: &[String]| [base, rest].concat();
        match first.as_str() {
            "crate" => self.own(&from(&[]), depth, found),
            "self" if rest.first().is_some_and(|next| next == "super") => {
                self.follow(module, rest, import, depth, found);
            }
            "self" => self.own(&from(module), depth, found),
            "super" => {
                let parent = module.split_last().map(|(_, parent)| parent).unwrap_or_default();
                let rest = if rest.first().is_some_and(|next| next == "super") {
                    return self.follow(parent, rest, import, depth, found);
                } else {
                    from(parent)
                };
                self.own(&rest, depth, found);
            }
            "Self" => {}
            name if import != Some(name) && self.names(module, name, import) => {
                self.own(&[module, path].concat(), depth, found);
            }
            name if PRIMITIVES.contains(&name) => {}
            name => {
                let child = import.is_some()
                    && self.modules.contains_key(&[module, std::slice::from_ref(first)].concat());
                let is_crate = name.starts_with(|letter: char| letter.is_ascii_lowercase())
                    && (path.len() > 1 || import.is_some());
                if child {
                    self.own(&[module, path].concat(), depth, found);
                } else if is_crate {
                    found.insert(Named::Foreign(path.to_vec()));
                }
            }
        }
    }

    fn names(&self, module: &[String], name: &str, import: Option<&str>) -> bool {
        match import {
            // The path of a glob may lead anywhere but through globs, which could be itself.
            Some("") => self
                .modules
                .get(module)
                .is_some_and(|scope| scope.items.contains(name) || scope.imports.contains_key(name)),
            _ => self.has(module, name, &mut Vec::new()),
        }
    }

    /// Whether a module has this name: as an item, an import or by a glob.
    fn has(&self, module: &[String], name: &str, seen: &mut Vec<Segments>) -> bool {
        if seen.iter().any(|other| other == module) {
            return false;
        }
        seen.push(module.to_vec());
        let Some(scope) = self.modules.get(module) else { return false };
        scope.items.contains(name)
            || scope.imports.contains_key(name)
            || self.globbed(module, scope).iter().any(|other| self.has(other, name, seen))
    }

    /// The own modules whose names a module imports all at once.
    fn globbed(&self, module: &[String], scope: &Module) -> Vec<Segments> {
        let named = scope.globs.iter().flat_map(|glob| {
            let mut found = BTreeSet::new();
            self.follow(module, glob, Some(""), 0, &mut found);
            found
        });
        named
            .filter_map(|named| match named {
                Named::Own(path) => Some(path),
                Named::Foreign(_) => None,
            })
            .collect()
    }

    /// A path below the crate, with its imports followed to where they lead.
    fn own(&self, path: &[String], depth: usize, found: &mut BTreeSet<Named>) {
        if depth > LONGEST_CHAIN {
            return;
        }
        for length in 0..path.len() {
            let (module, rest) = path.split_at(length);
            let (Some(scope), Some((name, beyond))) = (self.modules.get(module), rest.split_first()) else {
                break;
            };
            let is_module = self.modules.contains_key(&[module, std::slice::from_ref(name)].concat());
            if let Some(imports) = scope.imports.get(name).filter(|_| !is_module) {
                for import in imports {
                    self.follow(module, &[import, beyond].concat(), Some(name), depth + 1, found);
                }
                return;
            }
            if !scope.items.contains(name) && !is_module {
                let mut globbed = self.globbed(module, scope).into_iter();
                if let Some(other) = globbed.find(|other| self.has(other, name, &mut Vec::new())) {
                    return self.own(&[other.as_slice(), rest].concat(), depth + 1, found);
                }
            }
        }
        found.insert(Named::Own(path.to_vec()));
    }
}

fn rust_files(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let paths = entries.map(|entry| entry.expect("a folder entry is readable").path());
    let files = paths.flat_map(|path| match path.is_dir() {
        true => rust_files(&path),
        false => vec![path],
    });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

/// Reads one file.
struct Reading<'m> {
    modules: &'m mut BTreeMap<Segments, Module>,
    module: Segments,
    mentions: Vec<Mention>,
}

impl Reading<'_> {
    fn scope(&mut self) -> &mut Module {
        self.modules.entry(self.module.clone()).or_default()
    }

    fn mention(&mut self, span: Span, what: What) {
        self.mention_as(None, span, what);
    }

    fn mention_as(&mut self, import: Option<&str>, span: Span, what: What) {
        let import = import.map(str::to_owned);
        self.mentions.push(Mention { module: self.module.clone(), line: span.start().line, what, import });
    }

    fn import(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| {
            let mut path = before.to_vec();
            // `use a::{self}` imports `a`.
            if name != "self" || before.is_empty() {
                path.push(name.to_string());
            }
            path
        };
        let (path, name, span) = match tree {
            syn::UseTree::Path(path) => return self.import(&with(&path.ident), &path.tree),
            syn::UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.import(before, tree));
            }
            syn::UseTree::Glob(glob) => {
                self.mention_as(Some(""), glob.star_token.span, What::Path(before.to_vec()));
                return self.scope().globs.push(before.to_vec());
            }
            syn::UseTree::Name(name) => {
                let path = with(&name.ident);
                let own = path.last().cloned().unwrap_or_default();
                (path, own, name.ident.span())
            }
            syn::UseTree::Rename(rename) => {
                (with(&rename.ident), rename.rename.to_string(), rename.ident.span())
            }
        };
        // The import itself is a use, also of what is never named again.
        self.mention_as(Some(&name), span, What::Path(path.clone()));
        self.scope().imports.entry(name).or_default().push(path);
    }

    /// Macros are not parsed by the compiler either before they are expanded: every path in them counts.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Segments = Vec::new();
        let mut begin = Span::call_site();
        let mut colons = 0;
        for token in tokens {
            match &token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path, begin);
                    }
                    if path.is_empty() {
                        begin = ident.span();
                    }
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' && colons < 2 => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => {
                    self.end(&mut path, begin);
                    self.tokens(group.stream());
                }
                _ => {}
            }
            self.end(&mut path, begin);
            colons = 0;
        }
        self.end(&mut path, begin);
    }

    fn end(&mut self, path: &mut Segments, begin: Span) {
        match path.as_slice() {
            [] => {}
            [word] if word == "async" || word == "await" => self.mention(begin, What::Async),
            _ => self.mention(begin, What::Path(path.clone())),
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reading<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let name = match item {
            syn::Item::Const(item) => Some(&item.ident),
            syn::Item::Enum(item) => Some(&item.ident),
            syn::Item::Fn(item) => Some(&item.sig.ident),
            syn::Item::Mod(item) => Some(&item.ident),
            syn::Item::Static(item) => Some(&item.ident),
            syn::Item::Struct(item) => Some(&item.ident),
            syn::Item::Trait(item) => Some(&item.ident),
            syn::Item::Type(item) => Some(&item.ident),
            syn::Item::Union(item) => Some(&item.ident),
            syn::Item::Macro(item) => item.ident.as_ref(),
            _ => None,
        };
        if let Some(name) = name {
            self.scope().items.insert(name.to_string());
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.module.push(item.ident.to_string());
        self.scope();
        visit::visit_item_mod(self, item);
        self.module.pop();
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        let name = item.ident.to_string();
        let alias = item.rename.as_ref().map_or_else(|| name.clone(), |(_, alias)| alias.to_string());
        self.mention(item.ident.span(), What::Path(vec![name.clone(), String::new()]));
        self.scope().imports.entry(alias).or_default().push(vec![name]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if let Some(first) = path.segments.first() {
            self.mention(first.ident.span(), What::Path(segments));
        }
        visit::visit_path(self, path);
    }

    // `pub(in path)` and `pub(super)` use nothing.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    fn visit_macro(&mut self, invocation: &'ast syn::Macro) {
        self.visit_path(&invocation.path);
        self.tokens(invocation.tokens.clone());
    }

    fn visit_meta_list(&mut self, list: &'ast syn::MetaList) {
        self.visit_path(&list.path);
        self.tokens(list.tokens.clone());
    }

    fn visit_signature(&mut self, signature: &'ast syn::Signature) {
        if let Some(asyncness) = &signature.asyncness {
            self.mention(asyncness.span, What::Async);
        }
        visit::visit_signature(self, signature);
    }

    fn visit_expr_async(&mut self, block: &'ast syn::ExprAsync) {
        self.mention(block.async_token.span, What::Async);
        visit::visit_expr_async(self, block);
    }

    fn visit_expr_await(&mut self, expression: &'ast syn::ExprAwait) {
        self.mention(expression.await_token.span, What::Async);
        visit::visit_expr_await(self, expression);
    }
}
