//! A call of one of the caller's tools, made up from the tool's own schema.

use serde_json::{Map, Value};

/// Schemas nested deeper than this get an empty object. Chosen: no real tool is deeper; a recursive one would not end.
const SCHEMA_MAX_DEPTH: usize = 8;

/// A demanded tool call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ToolCall {
    pub(super) name: String,
    /// A JSON object, as text.
    pub(super) arguments: String,
}

impl ToolCall {
    /// The call that `choice` demands; `None` when an answer in words will do.
    ///
    /// # Errors
    /// A message for the caller when the demand cannot be met.
    pub(super) fn demanded(tools: &[Value], choice: Option<&Value>) -> Result<Option<Self>, String> {
        match choice {
            Some(Value::String(word)) if word == "required" => match tools.first() {
                Some(tool) => Self::of(tool).map(Some),
                None => Err("`tool_choice` is \"required\", but there are no `tools`.".to_owned()),
            },
            Some(Value::Object(choice)) => {
                let name = choice.get("function").and_then(|function| function.get("name"));
                let Some(name) = name.and_then(Value::as_str) else {
                    return Err("`tool_choice` names no function.".to_owned());
                };
                match tools.iter().find(|tool| name_of(tool) == Some(name)) {
                    Some(tool) => Self::of(tool).map(Some),
                    None => Err(format!("`tool_choice` names `{name}`, which is not among the `tools`.")),
                }
            }
            _ => Ok(None),
        }
    }

    fn of(tool: &Value) -> Result<Self, String> {
        let name = name_of(tool).ok_or("A tool has no `function.name`.")?;
        let schema = tool.get("function").and_then(|function| function.get("parameters"));
        let arguments = schema.map_or_else(|| Value::Object(Map::new()), |schema| object(schema, 0));
        Ok(Self { name: name.to_owned(), arguments: arguments.to_string() })
    }
}

fn name_of(tool: &Value) -> Option<&str> {
    tool.get("function")?.get("name")?.as_str()
}

/// The smallest value that looks right to `schema`.
fn sample(schema: &Value, depth: usize) -> Value {
    if let Some(first) = schema.get("enum").and_then(Value::as_array).and_then(|values| values.first()) {
        return first.clone();
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("integer" | "number") => 1.into(),
        Some("boolean") => true.into(),
        Some("array") => Value::Array(Vec::new()),
        Some("null") => Value::Null,
        Some("object") => object(schema, depth),
        _ => "simulated".into(),
    }
}

fn object(schema: &Value, depth: usize) -> Value {
    let required = schema.get("required").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let names = required.iter().filter_map(Value::as_str).take_while(|_| depth < SCHEMA_MAX_DEPTH);
    let members = names.map(|name| {
        let member = schema.get("properties").and_then(|properties| properties.get(name));
        (name.to_owned(), sample(member.unwrap_or(&Value::Null), depth + 1))
    });
    Value::Object(members.collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn weather() -> Value {
        json!({"type": "function", "function": {"name": "weather", "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer"},
                "unit": {"enum": ["celsius", "kelvin"]},
                "where": {"type": "object", "properties": {"exact": {"type": "boolean"}}, "required": ["exact"]},
                "tags": {"type": "array"},
                "nothing": {"type": "null"},
                "optional": {"type": "string"},
            },
            "required": ["city", "days", "unit", "where", "tags", "nothing"],
        }}})
    }

    fn clock() -> Value {
        json!({"type": "function", "function": {"name": "clock"}})
    }

    #[test]
    fn a_required_call_fills_what_the_schema_requires() {
        let call = ToolCall::demanded(&[weather()], Some(&json!("required"))).unwrap().unwrap();
        assert_eq!(call.name, "weather");
        assert_eq!(
            serde_json::from_str::<Value>(&call.arguments).unwrap(),
            json!({
                "city": "simulated", "days": 1, "unit": "celsius", "where": {"exact": true}, "tags": [],
                "nothing": null,
            })
        );
    }

    #[test]
    fn a_named_function_is_the_one_called() {
        let choice = json!({"type": "function", "function": {"name": "clock"}});
        let call = ToolCall::demanded(&[weather(), clock()], Some(&choice)).unwrap().unwrap();
        assert_eq!(call, ToolCall { name: "clock".to_owned(), arguments: "{}".to_owned() });
    }

    #[test]
    fn nothing_is_called_unless_it_is_demanded() {
        for choice in [None, Some(json!("auto")), Some(json!("none"))] {
            assert_eq!(ToolCall::demanded(&[clock()], choice.as_ref()), Ok(None));
        }
    }

    #[test]
    fn a_demand_that_cannot_be_met_is_an_error() {
        for choice in [json!("required"), json!({"type": "function"}), json!({"function": {"name": "x"}})] {
            assert!(ToolCall::demanded(&[], Some(&choice)).is_err(), "{choice}");
        }
        assert!(ToolCall::demanded(&[json!({"type": "function"})], Some(&json!("required"))).is_err());
    }

    #[test]
    fn a_schema_without_end_ends() {
        let mut schema = json!({"type": "string"});
        for _ in 0..50 {
            schema = json!({"type": "object", "properties": {"inner": schema}, "required": ["inner"]});
        }
        let tool = json!({"function": {"name": "deep", "parameters": schema}});
        let call = ToolCall::demanded(&[tool], Some(&json!("required"))).unwrap().unwrap();
        assert!(call.arguments.ends_with(&"}".repeat(SCHEMA_MAX_DEPTH)));
    }
}
