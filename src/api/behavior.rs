//! Limits on the speed of scaling: the form and meaning of `behavior` in `autoscaling/v2`, with bounds.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits on the speed of change, in each direction.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Behavior {
    /// Limits on adding replicas. Default: no stabilization window and no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_up: Option<ScalingRules>,
    /// Limits on removing replicas. Default: a stabilization window of 300 s, then at most 25 % (at least 1 replica) in
    /// 60 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale_down: Option<ScalingRules>,
}

/// Limits in one direction.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingRules {
    /// Seconds for which past recommendations are considered: scaling up takes the lowest of them, scaling down the
    /// highest. 0 to 3600. Default 0 for scaleUp, 300 for scaleDown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 3600))]
    pub stabilization_window_seconds: Option<i32>,
    /// Which of several policies is used: Max (default) allows the largest change, Min the smallest, Disabled no change
    /// in this direction. Replicas outside minReplicas and maxReplicas are corrected in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub select_policy: Option<SelectPolicy>,
    /// The policies. Default: those of the direction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub policies: Option<Vec<ScalingPolicy>>,
    /// Changes below this ratio of the current replicas are ignored, from 0 to 1. A number or a quantity: 0.1, "0.1" or
    /// "100m" is 10 %. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "tolerance_schema")]
    pub tolerance: Option<Ratio>,
}

/// A ratio as `autoscaling/v2` takes it: a quantity, which JSON may have as a number or as a text.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(untagged)]
pub enum Ratio {
    /// Such as 0.1.
    Number(f64),
    /// Such as "0.1" or "100m".
    Text(String),
}

/// A structural schema has no union of number and text (`x-kubernetes-int-or-string` takes whole numbers only), so that
/// it names no type. What is neither is refused when the object is planned; the last two lines keep it small.
fn tolerance_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({
        "x-kubernetes-preserve-unknown-fields": true,
        "minimum": 0,
        "maximum": 1,
        "maxLength": 16,
        "pattern": "^(0|1|[01]?\\.[0-9]+|[0-9]{1,4}m)$",
        "maxProperties": 0,
        "maxItems": 0,
    })
}

/// Which of several policies is used.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SelectPolicy {
    /// The policy that allows the largest change.
    #[default]
    Max,
    /// The policy that allows the smallest change.
    Min,
    /// No change in this direction.
    Disabled,
}

/// One limit: a largest change in a period.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct ScalingPolicy {
    /// Unit of value: Pods is a number of replicas, Percent a percentage of the replicas at the start of the period.
    #[serde(rename = "type")]
    pub type_: ScalingPolicyType,
    /// Largest change in the period, in the unit of type.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub value: i32,
    /// Length of the period in seconds, 1 to 1800.
    #[schemars(range(min = 1, max = 1800))]
    pub period_seconds: i32,
}

impl ScalingPolicy {
    /// Length of the period.
    #[must_use]
    pub fn period(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.period_seconds).unwrap_or_default())
    }
}

/// The unit of a scaling policy's value.
#[derive(JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScalingPolicyType {
    /// A number of replicas.
    Pods,
    /// A percentage of the replicas at the start of the period.
    Percent,
}
