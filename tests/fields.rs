//! `docs/fields.md` and `docs/queuedrain.md` agree with the custom resource definitions: every field, its default, its
//! bounds and its values. Fields and columns that any document names exist.

// clippy.toml allows this in tests, but not in what they share.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

#[path = "support/documents.rs"]
mod documents;

use documents::{Words, found, pages, read};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray,
};
use queuescaler::api::definition;

/// Each page, and the file of its definition.
const PAGES: [(&str, &str); 2] =
    [("docs/fields.md", "queuescalers.yaml"), ("docs/queuedrain.md", "queuedrains.yaml")];

/// The largest number that JSON carries exactly: no bound that a user meets.
const LARGEST: f64 = 9_007_199_254_740_991.0;

/// A field of the definition.
struct Field {
    /// Such as `policy.steps.rules[].backlogAbove`.
    path: String,
    /// It has fields of its own.
    is_group: bool,
    schema: JSONSchemaProps,
}

impl Field {
    /// A row of the table gives the end of a path; its section gives the rest.
    fn ends_with(&self, end: &str) -> bool {
        self.path == end || self.path.ends_with(&format!(".{end}"))
    }
}

fn collect(schema: &JSONSchemaProps, path: &str, all: &mut Vec<Field>) {
    let (inner, path) = match &schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => (items.as_ref(), format!("{path}[]")),
        _ => (schema, path.to_owned()),
    };
    for (name, schema) in inner.properties.iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let before = all.len();
        collect(schema, &path, all);
        all.push(Field { path, is_group: all.len() > before, schema: schema.clone() });
    }
}

/// The fields of `spec` or `status`.
fn fields(file: &str, part: &str) -> Vec<Field> {
    let (_, crd) = definition::definitions().into_iter().find(|(name, _)| *name == file).unwrap();
    let schema = crd.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
    let mut all = Vec::new();
    collect(&schema.properties.unwrap()[part], "", &mut all);
    assert!(all.len() > 15, "{part} of {file} has only {} fields", all.len());
    all
}

#[test]
fn every_field_has_a_row_and_every_row_a_field() {
    for (path, file) in PAGES {
        let page = read(path);
        let fields_only = sections_of_fields(&page);
        let rows = found(r"(?m)^\| `([^`]+)` \|", &fields_only);
        let (spec, status) = (fields(file, "spec"), fields(file, "status"));
        for field in spec.iter().filter(|field| !field.is_group) {
            assert!(rows.iter().any(|row| field.ends_with(row)), "{path} misses {}", field.path);
        }
        // The conditions' own fields are those of every Kubernetes object.
        let own = |field: &&Field| !field.is_group && !field.path.starts_with("conditions[]");
        for field in status.iter().filter(own) {
            let last = field.path.rsplit('.').next().unwrap();
            let explained =
                page.contains(&format!("`{last}`")) || rows.iter().any(|row| field.ends_with(row));
            assert!(explained, "{path} misses {} of status", field.path);
        }
        for row in &rows {
            let exists = spec.iter().chain(&status).any(|field| field.ends_with(row));
            assert!(exists, "{path} explains {row}, which does not exist");
        }
    }
}

/// What a page says of fields: not its tables of steps and reasons.
fn sections_of_fields(page: &str) -> String {
    let others = ["## States and steps", "## Problems and warnings", "## Reasons", "## Events"];
    let parts = page.split("\n## ").enumerate();
    let kept = parts.filter(|(number, part)| {
        *number == 0 || !others.iter().any(|other| format!("## {part}").starts_with(other))
    });
    kept.map(|(_, part)| part).collect::<Vec<_>>().join("\n## ")
}

/// Rows of the tables that have a default: the field, its defaults, and what it can be.
fn described(path: &str) -> Vec<(String, Vec<String>, Option<String>)> {
    let mut rows = Vec::new();
    let mut columns: Vec<String> = Vec::new();
    for line in read(path).lines() {
        if line.starts_with("|--") {
            continue;
        }
        let Some(line) = line.strip_prefix("| ") else {
            columns.clear();
            continue;
        };
        let cells: Vec<_> =
            line.trim_end_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        if columns.is_empty() {
            columns = cells;
            continue;
        }
        let column = |wanted: &str| {
            let place = columns.iter().position(|name| name.starts_with(wanted));
            place.map(|place| cells[place].replace("&#124;", "|"))
        };
        let Some(name) = found("^`([^`]+)`", &cells[0]).pop_first() else { continue };
        let defaults: Vec<_> = ["default", "default up", "default down"]
            .iter()
            .filter_map(|wanted| {
                columns.iter().position(|name| name == wanted).map(|place| cells[place].clone())
            })
            .collect();
        if !defaults.is_empty() {
            rows.push((name, defaults, column("range")));
        }
    }
    assert!(rows.len() > 15, "{path}: only {} rows found: are the tables written otherwise?", rows.len());
    rows
}

/// The numbers of a cell, without separators of thousands.
fn numbers(cell: &str) -> Vec<f64> {
    let plain = cell.replace(',', "");
    found(r"(?:^|[^\w.])([0-9]+(?:\.[0-9]+)?)", &plain).iter().map(|number| number.parse().unwrap()).collect()
}

#[test]
fn every_default_of_the_definition_is_in_its_row() {
    for (path, (row, cells, _)) in
        PAGES.iter().flat_map(|it| described(it.0).into_iter().map(move |row| (it, row)))
    {
        let spec = fields(path.1, "spec");
        for field in spec.iter().filter(|field| !field.is_group && field.ends_with(&row)) {
            let Some(default) = &field.schema.default else { continue };
            let default = default.0.to_string();
            let text = default.trim_matches('"');
            let has = cells.iter().any(|cell| {
                cell.contains(&format!("`{text}`"))
                    || text.parse::<f64>().is_ok_and(|number| numbers(cell).contains(&number))
            });
            assert!(has, "{}: {row} has the default {cells:?}, the definition {default}", path.0);
        }
    }
}

#[test]
fn every_bound_and_every_value_of_the_definition_is_in_its_row() {
    let mut missing = Vec::new();
    for (path, (row, _, range)) in
        PAGES.iter().flat_map(|it| described(it.0).into_iter().map(move |row| (it, row)))
    {
        let Some(range) = range else { continue };
        let spec = fields(path.1, "spec");
        for field in spec.iter().filter(|field| !field.is_group && field.ends_with(&row)) {
            let schema = &field.schema;
            let counts = [schema.min_items, schema.max_items].map(|count| count.map(|count| count as f64));
            let bounds = [schema.minimum, schema.maximum].into_iter().chain(counts);
            for bound in bounds.flatten().filter(|bound| *bound < LARGEST) {
                if !numbers(&range).contains(&bound) {
                    missing.push(format!("{}: {bound} in \"{range}\"", field.path));
                }
            }
            for value in schema.enum_.iter().flatten() {
                let value = value.0.to_string();
                if !range.contains(&format!("`{}`", value.trim_matches('"'))) {
                    missing.push(format!("{}: {value} in \"{range}\"", field.path));
                }
            }
        }
    }
    assert!(missing.is_empty(), "the pages miss\n{}", missing.join("\n"));
}

/// `status.target.selector`, with what stands before it, without the brackets of arrays.
fn all_paths() -> Words {
    let paths = PAGES.iter().flat_map(|(_, file)| {
        let of = |part: &'static str| {
            fields(file, part)
                .into_iter()
                .map(move |field| format!("{part}.{}", field.path.replace("[]", "")))
        };
        of("spec").chain(of("status"))
    });
    paths.collect()
}

/// Pages for users.
fn documents() -> impl Iterator<Item = (String, String)> {
    pages()
        .into_iter()
        .filter(|page| !page.starts_with("tests"))
        .map(|page| (page.display().to_string(), read(page)))
}

#[test]
fn every_field_that_a_document_names_exists() {
    let paths = all_paths();
    let mut checked = 0;
    for (page, text) in documents() {
        let mut named = found(r"`((?:spec|status)\.[A-Za-z.]+)", &text);
        named.extend(found(r"get q[sd] [^`\n]*jsonpath='\{\.((?:spec|status)[A-Za-z.]+)", &text));
        for name in named {
            checked += 1;
            assert!(paths.contains(name.trim_end_matches('.')), "{page}: there is no field {name}");
        }
    }
    assert!(checked > 20, "only {checked} found");
}

#[test]
fn every_column_that_a_document_names_is_printed() {
    let columns: Words = definition::definitions()
        .into_iter()
        .flat_map(|(_, crd)| crd.spec.versions.into_iter().next().unwrap().additional_printer_columns)
        .flatten()
        .map(|column| column.name.to_uppercase())
        .collect();
    for page in ["docs/alerts.md", "docs/conditions.md", "docs/fields.md", "docs/troubleshooting.md"] {
        let named = found(r"`([A-Z]{3,})`", &read(page));
        let missing: Vec<_> = named.difference(&columns).collect();
        assert!(missing.is_empty(), "{page} names the columns {missing:?}, and kubectl prints {columns:?}");
    }
}
