//! The operator as users have it: an image, installed by Helm, running in pods.

use std::process::Command;

use super::bench::kubectl;

/// A release of the chart in a namespace of its own that forbids whatever is not asked for: pod security `restricted`,
/// and no traffic but what policies allow. (The test bed's network does not enforce policies; other clusters may.)
///
/// It serves the QueueScalers with the label `installed: NAMESPACE` in all namespaces. Uninstalled when dropped.
pub struct Release {
    pub name: String,
    pub namespace: String,
    installed: bool,
}

impl Release {
    /// Installs this image by the chart as it is, and waits until the pod is ready.
    pub fn install(namespace: &str, image: &str) -> Self {
        Self::install_with(namespace, image, "", &[])
    }

    /// The same with objects that are in its namespace before, as YAML, and with further arguments of `helm install`.
    pub fn install_with(namespace: &str, image: &str, objects: &str, arguments: &[&str]) -> Self {
        let (name, namespace) = (format!("queuescaler-{namespace}"), format!("{namespace}-system"));
        kubectl(&["apply", "-f", "-"], &strict(&namespace));
        if !objects.is_empty() {
            kubectl(&["apply", "-n", &namespace, "-f", "-"], objects);
        }
        let release = Self { name, namespace, installed: true };
        let (repository, tag) = image.rsplit_once(':').unwrap();
        let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/queuescaler");
        let images = format!("image.repository={repository},image.tag={tag},image.pullPolicy=Never");
        let selector = format!("watchLabelSelector=installed={}", release.namespace);
        let install = [
            "install",
            &release.name,
            chart,
            "--namespace",
            &release.namespace,
            "--set",
            &images,
            "--set",
            &selector,
            // The definition is in the cluster already, from the tests that install nothing.
            "--take-ownership",
            "--force-conflicts",
            "--wait",
            "--timeout",
            "180s",
        ];
        helm(&[&install[..], arguments].concat());
        release
    }

    /// Runs a command in the operator's pod, as documents have it. Returns whether it succeeded, and what it printed.
    pub fn exec(&self, command: &[&str]) -> (bool, String) {
        let deployment = format!("deployment/{}", self.name);
        let exec = ["exec", "-n", &self.namespace, &deployment, "--"];
        let output = Command::new("kubectl").args(exec).args(command).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&printed).into_owned())
    }

    /// What the operator has logged.
    pub fn log(&self) -> String {
        kubectl(&["logs", "-n", &self.namespace, &format!("deployment/{}", self.name)], "")
    }

    /// One fact about the operator's pods, by a JSON path within a pod.
    pub fn pods(&self, path: &str) -> String {
        let template = format!("jsonpath={{.items[*]{path}}}");
        kubectl(&["get", "pods", "-n", &self.namespace, "-o", &template], "")
    }

    /// Removes it as users do.
    pub fn uninstall(&mut self) {
        self.installed = false;
        helm(&["uninstall", &self.name, "--namespace", &self.namespace, "--wait", "--timeout", "120s"]);
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let of_pods = |command: &[&str]| {
                let output = Command::new("kubectl").args(command).args(["-n", &self.namespace]).output();
                println!(
                    "{}",
                    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap()
                );
            };
            of_pods(&["describe", "pods"]);
            of_pods(&["logs", &format!("deployment/{}", self.name)]);
        }
        if self.installed {
            let _ =
                Command::new("helm").args(["uninstall", &self.name, "--namespace", &self.namespace]).output();
        }
        kubectl(&["delete", "namespace", &self.namespace, "--wait=false"], "");
    }
}

/// A namespace that refuses pods that are not `restricted`, and traffic that no policy allows.
fn strict(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata:
  name: {namespace}
  labels:
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: nothing-by-default
  namespace: {namespace}
spec:
  podSelector: {{}}
  policyTypes: [Ingress, Egress]
"
    )
}

fn helm(arguments: &[&str]) {
    let output = Command::new("helm").args(arguments).output().unwrap();
    assert!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Builds an image with one program and imports it into the test bed's node.
pub fn image(testbed: &str, name: &str, program: &str) {
    let target = format!("/usr/local/bin/{}", name.split(':').next().unwrap().rsplit('/').next().unwrap());
    let output = Command::new(testbed)
        .args(["image", "build", name, &format!("{program}={target}")])
        .args(["--entrypoint", &target])
        .output()
        .unwrap();
    assert!(output.status.success(), "image {name}: {}", String::from_utf8_lossy(&output.stderr));
}
