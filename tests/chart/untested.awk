# Prints the alert rules for which no test expects that they fire and, at a later time of the same test, that they are
# resolved. Reads what tests/chart/expectations.tpl lists.

# seconds TIME: such as 90s, 10m, 1h30m.
function seconds(time,    sum, number) {
  while (match(time, /^[0-9]+[hms]/)) {
    number = substr(time, 1, RLENGTH - 1)
    sum += number * (substr(time, RLENGTH, 1) == "h" ? 3600 : substr(time, RLENGTH, 1) == "m" ? 60 : 1)
    time = substr(time, RLENGTH + 1)
  }
  return sum
}

$1 == "rule" { rules[++count] = $2 }
$1 == "fires" {
  fires[$4] = 1
  key = $2 SUBSEP $4
  if (!(key in first) || seconds($3) < first[key]) first[key] = seconds($3)
}
$1 == "empty" && (!(($2, $4) in last) || seconds($3) > last[$2, $4]) { last[$2, $4] = seconds($3) }

END {
  if (count == 0) print "no rules found"
  for (key in first) {
    split(key, part, SUBSEP)
    if (last[key] > first[key] || last[part[1], "*"] > first[key]) resolved[part[2]] = 1
  }
  for (rule = 1; rule <= count; rule++) {
    alert = rules[rule]
    if (!(alert in fires)) print alert ": no test expects that it fires"
    else if (!(alert in resolved)) print alert ": no test expects later that it is resolved"
  }
}
