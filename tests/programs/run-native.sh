#!/bin/sh
# Compiles and runs test programs natively, each in a fresh directory: run-native.sh FILE...
# Says which fail, are slow, print the same twice or leave processes behind. Quick check while writing programs.
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-/tmp/scribe-native}
mkdir -p "$out"
bad=0
for f in "$@"; do
    name=$(basename "$f"); name=${name%.*}
    cflags=$(sed -n 's,^// *cflags: *,,p' "$f")
    case $f in
    *.rs) rustc -O -o "$out/$name" "$f" ;;
    *.cpp) g++ -O1 -g -std=c++20 -Wall -Wextra -fno-diagnostics-show-caret -Wno-stringop-overflow -Wno-nonnull -Wno-stringop-overread -I"$here" -I"$here/../../include" -o "$out/$name" "$f" $cflags ;;
    *) gcc -O1 -g -std=gnu17 -Wall -Wextra -fno-diagnostics-show-caret -Wno-stringop-overflow -Wno-nonnull -Wno-stringop-overread -I"$here" -I"$here/../../include" -o "$out/$name" "$f" $cflags ;;
    esac || { echo "$name: does not compile"; bad=1; continue; }
    want=0
    s=$(sed -n 's,^// *expect: *exit *,,p' "$f"); [ -n "$s" ] && want=$s
    s=$(sed -n 's,^// *expect: *signal *,,p' "$f"); [ -n "$s" ] && want=$((128 + s))
    for k in 1 2; do
        dir=$(mktemp -d)
        start=$(date +%s%N)
        (cd "$dir" && timeout 20 "$out/$name" >"$out/$name.out$k" 2>"$out/$name.err$k" </dev/null)
        status=$?
        ms=$(( ($(date +%s%N) - start) / 1000000 ))
        rm -rf "$dir"
        [ $status = $want ] || { echo "$name: status $status"; cat "$out/$name.err$k"; bad=1; break; }
        [ $ms -lt 1000 ] || echo "$name: $ms ms"
        left=$(pgrep -x "$(printf %.15s "$name")") && echo "$name: left process $left"
    done
    cmp -s "$out/$name.out1" "$out/$name.out2" && echo "$name: prints the same twice"
    grep -H '^skip:' "$out/$name.out1"
done
exit $bad
