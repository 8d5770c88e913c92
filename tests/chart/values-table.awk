# Makes the README's table from values.yaml. A comment right above a key describes it; a key without one groups the
# keys below it, and every value must be described by itself or by a key above it.

/^ *#/ {
  text = $0
  sub(/^ *# ?/, "", text)
  comment = comment == "" ? text : comment " " text
  next
}
/^ *$/ { comment = ""; next }
{
  indent = match($0, /[^ ]/) - 1
  if (described && indent <= described_indent) described = 0
  if (described) { comment = ""; next }
  if ($0 !~ /^ *[A-Za-z]+:/) { print "values.yaml:" NR ": not a key" >"/dev/stderr"; next }

  key = $0
  sub(/^ */, "", key)
  value = key
  sub(/:.*/, "", key)
  sub(/^[A-Za-z]+: */, "", value)
  depth = indent / 2
  path[depth] = key
  name = path[0]
  for (i = 1; i <= depth; i++) name = name "." path[i]

  if (comment != "") {
    if (!rows++) print "| Value | Default | What it does |\n|---|---|---|"
    print "| `" name "` | " (value == "" ? "see values.yaml" : "`" value "`") " | " comment " |"
    described = 1
    described_indent = indent
  } else if (value != "") {
    print "values.yaml:" NR ": " name " has no comment" >"/dev/stderr"
  }
  comment = ""
}
