//! Recipes as text: TOML with a comment for every setting, and JSON.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};
use toml::de::{DeTable, DeValue};

use super::Recipe;
use super::check::RecipeError;
use super::settings::{GROUPS, Kind, Setting, shorten};
use crate::encoder::Layer;
use crate::suggest;

/// The key that names the recipe from which the settings are taken that a file leaves out.
const BASE: &str = "base";

impl Recipe {
    /// The recipe in a text: [JSON](Self::from_json) if it begins with `{`, else
    /// [TOML](Self::from_toml).
    ///
    /// # Errors
    /// See [`from_toml`](Self::from_toml).
    pub fn from_text(text: &str) -> Result<Self, RecipeError> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        match text.trim_start().starts_with(['{', '[']) && !is_toml_heading(text) {
            true => Self::from_json(text),
            false => Self::from_toml(text),
        }
    }

    /// The recipe in a TOML text, such as [`to_toml`](Self::to_toml) gives it. Settings that are left
    /// out, in groups too, are those of the recipe that `base` names, or of the default recipe. Keys
    /// may have `-` for `_`.
    ///
    /// ```
    /// use impasto::Recipe;
    ///
    /// let recipe = Recipe::from_toml("base = 'gram'\nstyle_weight = 9000\ntv.norm = 'l1'")?;
    /// assert_eq!(recipe.style_weight, 9000.0);
    /// assert_eq!(recipe.layer_weights, Recipe::gram().layer_weights);
    /// # Ok::<(), impasto::RecipeError>(())
    /// ```
    ///
    /// # Errors
    /// [`RecipeError::Syntax`] for what is no TOML, [`RecipeError::UnknownSetting`],
    /// [`RecipeError::Value`] and [`RecipeError::Repeated`] with the line of the text. What settings
    /// mean together is left to [`check`](Self::check).
    pub fn from_toml(text: &str) -> Result<Self, RecipeError> {
        let line = |offset: usize| 1 + text.bytes().take(offset).filter(|&b| b == b'\n').count();
        let table = DeTable::parse(text).map_err(|error| RecipeError::Syntax {
            format: "TOML",
            line: error.span().map_or(1, |span| line(span.start)),
            problem: one_line(error.message()),
        })?;
        let mut tree = Tree {
            lines: BTreeMap::new(),
            line: &line,
        };
        let settings = tree.table(table.get_ref(), "")?;
        let lines = tree.lines;
        File { lines }.recipe(settings)
    }

    /// The recipe in a JSON text, in the same form as [`from_toml`](Self::from_toml) takes.
    ///
    /// # Errors
    /// See [`from_toml`](Self::from_toml); only syntax errors have a line.
    pub fn from_json(text: &str) -> Result<Self, RecipeError> {
        let settings = serde_json::from_str(text).map_err(|error| {
            let problem = error.to_string();
            let end = problem.rfind(" at line ").unwrap_or(problem.len());
            RecipeError::Syntax {
                format: "JSON",
                line: error.line().max(1),
                problem: one_line(&problem[..end]),
            }
        })?;
        let file = File {
            lines: BTreeMap::new(),
        };
        file.recipe(canonical(settings, "")?)
    }

    /// A recipe file in TOML with all settings, each with what it means and what it can be. It reads
    /// back as the same recipe, to the last bit.
    ///
    /// # Errors
    /// Those of [`check`](Self::check).
    pub fn to_toml(&self) -> Result<String, RecipeError> {
        self.check()?;
        let recipe = self.to_value();
        let mut text = String::from(
            "# A recipe of impasto: `impasto stylize … --recipe THIS_FILE`.\n\
             # Settings that are left out are those of the recipe `base`.\n",
        );
        let base = Self::named(&self.name).unwrap_or_default().name;
        text.push_str(&format!("{BASE} = \"{base}\"\n\n"));
        for setting in Self::settings() {
            if setting.key() != "optimizer" && group(setting).is_none() {
                write_setting(&mut text, setting, &recipe, "");
            }
        }
        for (name, help) in GROUPS {
            let mut settings = String::new();
            for setting in Self::settings() {
                if group(setting) == Some(name) {
                    write_setting(&mut settings, setting, &recipe, name);
                }
            }
            if !settings.is_empty() {
                text.push_str(&format!("\n# {help}\n[{name}]\n{settings}"));
            }
        }
        Ok(text)
    }

    /// The recipe in the form that JSON has it.
    pub(super) fn to_value(&self) -> Value {
        serde_json::to_value(self).expect("numbers, names and lists have a JSON form")
    }
}

/// Whether a text that begins with `[` begins with a heading of TOML, not with a list.
fn is_toml_heading(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or_default();
    let name = first
        .strip_prefix('[')
        .and_then(|rest| rest.split(']').next());
    name.is_some_and(|name| {
        let name = name.trim();
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_alphanumeric() || "._- ".contains(c))
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The group whose heading a setting stands under.
fn group(setting: &Setting) -> Option<&'static str> {
    let inside = |name: &str| {
        let rest = setting.key().strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with('.'))
    };
    let names = GROUPS.iter().map(|(name, _)| *name);
    names
        .filter(|name| inside(name))
        .max_by_key(|name| name.len())
}

/// Adds a comment, and the value if there is one, unless the recipe makes another choice.
fn write_setting(text: &mut String, setting: &Setting, recipe: &Value, group: &str) {
    let Some(value) = setting.value_in(recipe) else {
        return;
    };
    let help = setting.help().trim_end_matches('.');
    text.push_str(&format!("# {help} ({}).\n", setting.values()));
    if !value.is_object() {
        let key = setting.key();
        let key = key
            .strip_prefix(group)
            .map_or(key, |key| key.trim_start_matches('.'));
        text.push_str(&format!("{key} = {}\n", toml_value(value)));
    }
}

/// A value in TOML. Its numbers, true and false are written as in JSON.
fn toml_value(value: &Value) -> String {
    match value {
        Value::Null => "\"none\"".to_string(),
        Value::String(text) => toml::Value::String(text.clone()).to_string(),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(toml_value).collect();
            format!("[{}]", values.join(", "))
        }
        value => value.to_string(),
    }
}

/// `a.b`, or `b` at the top.
fn join(prefix: &str, key: &str) -> String {
    match prefix {
        "" => key.to_string(),
        prefix => format!("{prefix}.{key}"),
    }
}

/// Adds a setting, its key with `_` for `-`, unless it is there already.
fn insert(
    map: &mut Map<String, Value>,
    prefix: &str,
    key: &str,
    value: Value,
    line: Option<usize>,
) -> Result<(), RecipeError> {
    match map.insert(key.to_string(), value) {
        None => Ok(()),
        Some(_) => Err(RecipeError::Repeated {
            key: join(prefix, key),
            line,
        }),
    }
}

/// The same settings with `_` for `-` in all keys.
fn canonical(
    settings: Map<String, Value>,
    prefix: &str,
) -> Result<Map<String, Value>, RecipeError> {
    let mut map = Map::new();
    for (key, value) in settings {
        let key = key.replace('-', "_");
        let value = match value {
            Value::Object(inner) => Value::Object(canonical(inner, &join(prefix, &key))?),
            value => value,
        };
        insert(&mut map, prefix, &key, value, None)?;
    }
    Ok(map)
}

/// From TOML to the form that JSON has, with the line of each key.
struct Tree<'a> {
    lines: BTreeMap<String, usize>,
    line: &'a dyn Fn(usize) -> usize,
}

impl Tree<'_> {
    fn table(&mut self, table: &DeTable, prefix: &str) -> Result<Map<String, Value>, RecipeError> {
        let mut map = Map::new();
        for (key, value) in table {
            let line = (self.line)(key.span().start);
            let key = key.get_ref().replace('-', "_");
            let path = join(prefix, &key);
            self.lines.insert(path.clone(), line);
            let value = match value.get_ref() {
                DeValue::Table(table) => Value::Object(self.table(table, &path)?),
                value => scalar(value),
            };
            insert(&mut map, prefix, &key, value, Some(line))?;
        }
        Ok(map)
    }
}

/// A value of TOML that is no table. What JSON does not have becomes text, which no number accepts.
fn scalar(value: &DeValue) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::from(number),
            // TOML promises no more than 64 bits with a sign, and forbids no more.
            Err(_) => u64::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| Value::String(number.to_string()), Value::from),
        },
        DeValue::Float(number) => {
            let text = number.as_str();
            let parsed = text.parse().ok().and_then(Number::from_f64);
            parsed.map_or_else(|| Value::String(text.to_string()), Value::Number)
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(values) => values.iter().map(|value| scalar(value.get_ref())).collect(),
        // In a list, where no setting has one.
        DeValue::Table(_) => Value::Object(Map::new()),
    }
}

/// A recipe file whose settings are compared with those that exist.
struct File {
    /// The line of each key, where it is known.
    lines: BTreeMap<String, usize>,
}

impl File {
    /// The recipe with these settings.
    fn recipe(&self, mut settings: Map<String, Value>) -> Result<Recipe, RecipeError> {
        let base = match settings.remove(BASE) {
            None => Recipe::default(),
            Some(Value::String(name)) => Recipe::named(&name)?,
            Some(value) => return Err(self.wrong(BASE, &value, "the name of a recipe", None)),
        };
        let settings = self.group(settings, "")?;
        let mut recipe = base.to_value();
        merge(&mut recipe, settings);
        serde_json::from_value(recipe).map_err(|error| RecipeError::Syntax {
            format: "recipe",
            line: 1,
            problem: one_line(&error.to_string()),
        })
    }

    /// Settings below a key, each checked.
    fn group(&self, settings: Map<String, Value>, prefix: &str) -> Result<Value, RecipeError> {
        let known = Setting::keys_in(prefix);
        let mut checked = Map::new();
        for (key, value) in settings {
            let path = join(prefix, &key);
            let value = match (Setting::find(&path), value) {
                _ if !known.contains(&key.as_str()) => {
                    return Err(self.unknown(&path, &key, &known));
                }
                (Some(setting), value) => self.setting(setting, value)?,
                (None, Value::Object(inner)) => self.group(inner, &path)?,
                (None, value) => {
                    let expected = format!(
                        "settings of its own: {}",
                        Setting::keys_in(&path).join(", ")
                    );
                    return Err(self.wrong(&path, &value, &expected, None));
                }
            };
            checked.insert(key, value);
        }
        Ok(Value::Object(checked))
    }

    /// The value of a setting, in the form that a recipe has in JSON.
    fn setting(&self, setting: &Setting, value: Value) -> Result<Value, RecipeError> {
        let key = setting.key();
        match (setting.kind, value) {
            (_, Value::String(text)) if setting.is_optional() && text == "none" => Ok(Value::Null),
            (Kind::Choice(names), Value::String(text)) => {
                let name = text.to_lowercase().replace('_', "-");
                if !names.contains(&name.as_str()) {
                    let nearest = suggest::nearest(&name, names.iter().copied());
                    let nearest = nearest.map(str::to_string);
                    return Err(self.wrong(key, &Value::String(text), &setting.values(), nearest));
                }
                let inside = join(key, &name);
                match Setting::find(&inside) {
                    Some(inner) => {
                        let expected = format!("{name} = {}", inner.kind.words());
                        Err(self.wrong(key, &Value::String(text), &expected, None))
                    }
                    // A choice with settings of its own, which have defaults.
                    None if !Setting::keys_in(&inside).is_empty() => Ok(Value::Object(
                        Map::from_iter([(name, Value::Object(Map::new()))]),
                    )),
                    None => Ok(Value::String(name)),
                }
            }
            (Kind::Choice(_), Value::Object(inner)) => match inner.len() {
                1 => self.group(inner, key),
                count => {
                    let expected = format!("one of {}, not {count}", setting.values());
                    Err(self.wrong(key, &Value::Object(inner), &expected, None))
                }
            },
            (Kind::Layers, Value::Array(layers)) => {
                for layer in &layers {
                    let name = layer.as_str().unwrap_or_default();
                    if let Err(error) = name.parse::<Layer>() {
                        let nearest = layer.is_string().then_some(error.nearest);
                        return Err(self.wrong(key, layer, &setting.values(), nearest));
                    }
                }
                Ok(Value::Array(layers))
            }
            (_, value) if setting.accepts(&value) => Ok(value),
            (_, value) => Err(self.wrong(key, &value, &setting.values(), None)),
        }
    }

    fn wrong(
        &self,
        key: &str,
        value: &Value,
        expected: &str,
        nearest: Option<String>,
    ) -> RecipeError {
        RecipeError::Value {
            key: key.to_string(),
            line: self.line(key),
            value: shorten(value),
            expected: expected.to_string(),
            nearest,
        }
    }

    fn unknown(&self, path: &str, key: &str, known: &[&str]) -> RecipeError {
        // The right name in the wrong group, or a similar one in this.
        let settings = Recipe::settings().iter().map(Setting::key);
        let mut elsewhere = settings.filter(|known| known.rsplit('.').next() == Some(key));
        let nearest = elsewhere.next().map(str::to_string).or_else(|| {
            let base = (!path.contains('.')).then_some(BASE);
            let nearest = suggest::nearest(key, known.iter().copied().chain(base))?;
            let group = path.strip_suffix(key).unwrap_or_default();
            Some(format!("{group}{nearest}"))
        });
        RecipeError::UnknownSetting {
            key: path.to_string(),
            line: self.line(path),
            nearest,
        }
    }

    /// The line of a key, or of the group that it is in.
    fn line(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            key = &key[..key.rfind('.')?];
        }
    }
}

/// Replaces settings of the first by those of the second. Groups are merged where they have the same
/// settings; another choice, such as of the optimiser, replaces the first.
fn merge(settings: &mut Value, changes: Value) {
    match (settings, changes) {
        (Value::Object(settings), Value::Object(changes))
            if changes.keys().all(|key| settings.contains_key(key)) =>
        {
            for (key, change) in changes {
                if let Some(setting) = settings.get_mut(&key) {
                    merge(setting, change);
                }
            }
        }
        (settings, changes) => *settings = changes,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::optim::{AdamConfig, OptimizerConfig};
    use crate::transfer::{Init, LayerWeights, Measure, Search};

    #[test]
    fn json_need_not_say_everything() {
        let recipe = Recipe::from_json(
            r#"{"size": 300, "neighbors": {"rotations": false}, "optimizer": {"adam": {}}}"#,
        );
        let mut expected = Recipe::default().with_size(300);
        expected.neighbors.rotations = false;
        expected.optimizer = OptimizerConfig::Adam(AdamConfig::default());
        assert_eq!(recipe.unwrap(), expected);
        let recipe = Recipe::from_json(r#"{"optimizer": {"lbfgs": {"learning_rate": 0.5}}}"#);
        let OptimizerConfig::Lbfgs(lbfgs) = recipe.unwrap().optimizer else {
            panic!("another optimiser");
        };
        assert_eq!((lbfgs.history, lbfgs.learning_rate), (20, 0.5));
        for wrong in [
            r#"{"sise": 300}"#,
            r#"{"neighbors": {"rotation": false}}"#,
            "[]",
            "{",
        ] {
            assert!(Recipe::from_json(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn toml_need_not_say_everything() {
        let text = "
            base = 'wasserstein'
            size = 300
            style-weight = 12
            pooling = 'none'
            init = 'noise'
            measure = 'Square_Root_Of_Area'
            layer_weights.each = [1, 2, 3, 4, 5]
            [optimizer]
            adam = { beta1 = 0 }
            [neighbors.search.projected]
            dimensions = 9";
        let mut expected = Recipe {
            size: 300,
            style_weight: 12.0,
            pooling: None,
            init: Init::NOISE,
            measure: Measure::SquareRootOfArea,
            layer_weights: LayerWeights::Each(vec![1.0, 2.0, 3.0, 4.0, 5.0]),
            optimizer: OptimizerConfig::Adam(AdamConfig {
                beta1: 0.0,
                ..AdamConfig::default()
            }),
            ..Recipe::wasserstein()
        };
        expected.neighbors.search = Search::Projected { dimensions: 9 };
        assert_eq!(Recipe::from_text(text).unwrap(), expected);
        assert_eq!(Recipe::from_text("").unwrap(), Recipe::default());
        let by_name = Recipe::from_toml("optimizer = 'adam'").unwrap();
        assert_eq!(
            by_name.optimizer,
            OptimizerConfig::Adam(AdamConfig::default())
        );
        let heading = Recipe::from_text("[tv]\nnorm = 'l2'").unwrap();
        assert_eq!(
            heading,
            Recipe::from_text(r#"{"tv": {"norm": "l2"}}"#).unwrap()
        );
        let json = Recipe::from_text("\u{feff} {\"pooling\": null, \"base\": \"gram\"}");
        assert_eq!(json.unwrap().pooling, None);
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        for (text, expected) in [
            (
                "\nstyle_wieght = 3",
                "line 2: there is no setting `style_wieght`; did you mean `style_weight`?",
            ),
            (
                "[optimizer.lbfgs]\nhistroy = 3",
                "line 2: there is no setting `optimizer.lbfgs.histroy`; did you mean `optimizer.lbfgs.history`?",
            ),
            (
                "content_share = 1",
                "line 1: there is no setting `content_share`; did you mean `neighbors.content_share`?",
            ),
            ("qqqqqqqqqq = 1", "line 1: there is no setting `qqqqqqqqqq`"),
            ("bsae = 'gram'", "did you mean `base`?"),
            ("base = 'garm'", "did you mean `gram`?"),
            ("base = 3", "`base` is 3, expected the name of a recipe"),
            ("[optimizer.adm]", "did you mean `optimizer.adam`?"),
            (
                "\n\nmeasure = 'longest'",
                "line 3: `measure` is `longest`, expected longest-side, shortest-side, width, height or square-root-of-area; did you mean `longest-side`?",
            ),
            (
                "size = 0",
                "line 1: `size` is 0, expected a whole number from 1 to 65536",
            ),
            (
                "size = 99999999999999999999",
                "`size` is `99999999999999999999`, expected a whole number",
            ),
            ("ratio = nan", "`ratio` is `nan`, expected a number above 1"),
            (
                "averaging = 1",
                "`averaging` is 1, expected a number from 0 to below 1, or none: the last step or a better one",
            ),
            (
                "coarse_iterations = []",
                "`coarse_iterations` is an empty list, expected",
            ),
            (
                "neighbors = 3",
                "`neighbors` is 3, expected settings of its own: weight, layers",
            ),
            (
                "style_layers = ['rleu4_1']",
                "`style_layers` is `rleu4_1`, expected a list of layers, such as [\"relu4_2\"]; did you mean `relu4_1`?",
            ),
            (
                "layer_weights = 'each'",
                "expected each = a list of numbers",
            ),
            (
                "init = { noise = {}, style = {} }",
                "expected one of content, noise, style or style-color, not 2",
            ),
            (
                "relative = 'yes'",
                "`relative` is `yes`, expected true or false",
            ),
            ("size = 1\nsize = 2", "line 2: this is not TOML: "),
            ("tv-weight = 1\ntv_weight = 2", "`tv_weight` is given twice"),
            ("size: 3", "line 1: this is not TOML: "),
            ("{\"size\": 3,}", "line 1: this is not JSON: "),
            ("[1, 2]", "this is not JSON: "),
        ] {
            let error = Recipe::from_text(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}\n{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn every_recipe_survives_toml_and_json() {
        for recipe in Recipe::all() {
            let text = recipe.to_toml().unwrap();
            assert_eq!(Recipe::from_toml(&text).unwrap(), recipe, "{text}");
            let json = serde_json::to_string(&recipe).unwrap();
            assert_eq!(Recipe::from_text(&json).unwrap(), recipe);
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        }
    }

    #[test]
    fn every_line_of_a_file_has_its_comment() {
        for recipe in Recipe::all() {
            let text = recipe.to_toml().unwrap();
            let lines: Vec<&str> = text.lines().collect();
            let value = recipe.to_value();
            let mut settings = 0;
            for (index, line) in lines.iter().enumerate() {
                if line.contains(" = ") && !line.starts_with('#') {
                    assert!(lines[index - 1].starts_with("# "), "{line}");
                    settings += 1;
                }
            }
            let leaf = |setting: &&Setting| {
                setting
                    .value_in(&value)
                    .is_some_and(|value| !value.is_object())
            };
            // And the base.
            assert_eq!(settings, 1 + Recipe::settings().iter().filter(leaf).count());
        }
    }

    proptest! {
        /// Also numbers that are not round, and names that need quotes.
        #[test]
        fn odd_recipes_survive_too(
            weight in 0.0..f64::MAX,
            small in 0.0..1e-300f64,
            share in 0.0..=1.0f64,
            name in "\\PC*",
            source in any::<String>(),
        ) {
            let mut recipe = Recipe {
                name,
                source,
                content_weight: weight,
                style_weight: small,
                averaging: Some(share).filter(|&share| share < 1.0),
                layer_weights: LayerWeights::Each(vec![share, small, weight, 0.0, 1.0]),
                ..Recipe::crowsonkb()
            };
            recipe.neighbors.content_share = share;
            let text = recipe.to_toml().unwrap();
            prop_assert_eq!(Recipe::from_toml(&text).unwrap(), recipe);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[a-z_.=\\[\\]{}'\"0-9\n -]{0,80}") {
            if let Err(error) = Recipe::from_text(&text) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }
}
