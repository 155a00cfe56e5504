# Adds up which lines of storage and replication were run, from sources as `cov show` prints them: the file's name on
# a line of its own, then the number of each line, how often it was run (nothing where there is nothing to run), and
# the line, with bars between them.
# variables: root (the project's folder, with a slash), missed (the file for lines that were not run), floor (percent)
# Tests themselves, their tools and generated code do not count: a module of tests ends its file.
/^\// && !/\|/ {
  counts = index($0, root) == 1
  file = substr($0, length(root) + 1)
  counts = counts && file ~ /^(storage|replication)\/src\// && file !~ /(tests|testing|rig|sim_disk|generated)[.\/]/
  next
}
!counts || !/^ *[0-9]+\|/ { next }
{
  number = substr($0, 1, index($0, "|") - 1) + 0
  rest = substr($0, index($0, "|") + 1)
  hits = substr(rest, 1, index(rest, "|") - 1)
  text = substr(rest, index(rest, "|") + 1)
  if (text ~ /^mod tests( \{|;)/) { counts = 0; next }
  if (hits !~ /[0-9]/) next
  all[file]++
  if (hits + 0 > 0) run[file]++; else print file ":" number ": " text > missed
}
END {
  for (file in all)
    printf "%6.1f %% of %5d lines  %s\n", 100 * run[file] / all[file], all[file], file | "sort -k6"
  close("sort -k6")
  for (file in all) {
    crate = file; sub(/\/.*/, "", crate)
    of[crate] += all[file]; ran[crate] += run[file]
  }
  for (crate in of) {
    share = 100 * ran[crate] / of[crate]
    printf "%s: %.2f %% of %d lines\n", crate, share, of[crate]
    if (share < floor) failed = 1
  }
  exit failed || !("storage" in of) || !("replication" in of)
}
