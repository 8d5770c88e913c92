# Reads rendered manifests and complains about rights that the operator must not have, or that nobody explains:
# wildcards, listing or watching secrets, anything but reading them, and rules without a comment that gives the reason.
# Rules are read line by line, so they have to be written as `verbs: ["get"]`.

/^# Source:/ { source = $3 }
/^kind:/ { role = ($2 == "Role" || $2 == "ClusterRole") }
!role { next }

/^ *- apiGroups:/ && previous !~ /^ *# / { complain("a rule without a comment that gives its reason") }
/^ *(- )?(apiGroups|resources|resourceNames|verbs|nonResourceURLs):/ {
  if ($0 !~ /: \[.*\]$/) complain("a list that is not written in one line")
  if ($0 ~ /\*/) complain("a wildcard")
}
/^ *resources:/ { secrets = ($0 ~ /"secrets"/) }
/^ *verbs:/ && secrets && $0 !~ /verbs: \["get"\]$/ { complain("secrets may only be read one by one") }
/^ *verbs:/ && $0 ~ /"(bind|escalate|impersonate)"/ { complain("a verb that gives further rights") }
{ previous = $0 }

function complain(what) {
  print source ": " what ":" $0
  bad = 1
}
END { exit bad }
