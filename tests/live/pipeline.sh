# Pipelines, subshells, a trap, files that come and go: what a shell script does.
echo "start $$"
for i in 1 2 3 4 5 6; do
  seq 1 $i | tr '1-9' 'a-i' | (sleep 0.1; cat) | paste -sd, -
  echo "x$i" >> pipe.tmp
  sleep 0.05
done
wc -l < pipe.tmp
cat pipe.tmp
rm pipe.tmp
(exit 5); echo $?
trap 'echo trapped' USR1
kill -USR1 $$
(sleep 0.1; exit 3) &
wait $!; echo "background $?"
exit 7
