//! A Job of distributors, whatever they copy.

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, EnvVar, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, SecurityContext, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Owner;
use crate::drain::distribution::{ClientFiles, TlsFiles, VARIABLE};
use crate::plan::TlsRef;

/// The user of the operator's image.
const USER: i64 = 65_532;
/// How often pods of a Job are started anew before it gives up.
const RESTARTS: i32 = 20;

/// The image of the operator, which has the program that copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// Repository with tag or digest.
    pub name: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

/// Where the certificates and keys of [`tls_secrets`] are, in this folder.
pub(super) fn tls_files(folder: &str, tls: &TlsRef) -> TlsFiles {
    let file = |name: &str| format!("{folder}/{name}");
    TlsFiles {
        ca: tls.ca_secret_ref.as_ref().map(|_| file("ca/ca.crt")),
        client: tls
            .client_certificate_secret_ref
            .as_ref()
            .map(|_| ClientFiles { certificate: file("client/tls.crt"), key: file("client/tls.key") }),
        insecure_skip_verify: tls.insecure_skip_verify,
    }
}

/// Certificates and keys.
pub(super) fn tls_secrets(tls: Option<&TlsRef>) -> Vec<(&'static str, SecretVolumeSource)> {
    let Some(tls) = tls else { return Vec::new() };
    let mut volumes = Vec::new();
    volumes
        .extend(tls.ca_secret_ref.as_ref().map(|it| ("ca", volume(&it.name, vec![item(&it.key, "ca.crt")]))));
    volumes.extend(tls.client_certificate_secret_ref.as_ref().map(|it| {
        let items = vec![item(&it.certificate_key, "tls.crt"), item(&it.private_key_key, "tls.key")];
        ("client", volume(&it.name, items))
    }));
    volumes
}

pub(super) fn item(key: &str, path: &str) -> KeyToPath {
    KeyToPath { key: key.to_owned(), path: path.to_owned(), mode: None }
}

pub(super) fn volume(name: &str, items: Vec<KeyToPath>) -> SecretVolumeSource {
    SecretVolumeSource {
        secret_name: Some(name.to_owned()),
        items: Some(items),
        default_mode: Some(0o440),
        optional: None,
    }
}

/// Secrets as volumes, and the folder that they are mounted in.
pub(super) type Mounted = (&'static str, Vec<(&'static str, SecretVolumeSource)>);

/// The Job.
pub(super) fn made(
    owner: &Owner,
    name: &str,
    part: &str,
    told: String,
    (folder, secrets): Mounted,
    pods: i32,
    image: &Image,
) -> Job {
    let mounts = secrets.iter().map(|(name, _)| VolumeMount {
        name: (*name).to_owned(),
        mount_path: format!("{folder}/{name}"),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let quantities = |pairs: &[(&str, &str)]| {
        Some(pairs.iter().map(|(name, size)| ((*name).to_owned(), Quantity((*size).to_owned()))).collect())
    };
    let container = Container {
        name: "distributor".into(),
        image: Some(image.name.clone()),
        image_pull_policy: Some(image.pull_policy.clone()),
        args: Some(vec!["distribute".into()]),
        env: Some(vec![EnvVar { name: VARIABLE.into(), value: Some(told), value_from: None }]),
        volume_mounts: Some(mounts.collect()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        resources: Some(ResourceRequirements {
            requests: quantities(&[("cpu", "100m"), ("memory", "64Mi")]),
            limits: quantities(&[("memory", "256Mi")]),
            ..ResourceRequirements::default()
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
            ..SecurityContext::default()
        }),
        ..Container::default()
    };
    let volumes = secrets.into_iter().map(|(name, secret)| Volume {
        name: name.to_owned(),
        secret: Some(secret),
        ..Volume::default()
    });
    let pod = PodSpec {
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        restart_policy: Some("OnFailure".into()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".into(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container],
        volumes: Some(volumes.collect()),
        ..PodSpec::default()
    };
    let spec = JobSpec {
        completion_mode: Some("Indexed".into()),
        completions: Some(pods),
        parallelism: Some(pods),
        backoff_limit: Some(RESTARTS),
        suspend: Some(false),
        template: PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(owner.labels(Some(&owner.part(part)))),
                ..ObjectMeta::default()
            }),
            spec: Some(pod),
        },
        ..JobSpec::default()
    };
    Job { metadata: owner.metadata(name), spec: Some(spec), status: None }
}
