# `run NAME DIRECTORY PROGRAM ARGUMENT...` runs a test program in the directory that it expects.
run() {
    name=$1
    cd "$2" || exit
    shift 2
    echo "ffitrace-vm: start $name"
    # A pipe, so that nobody takes the console for a terminal.
    { "$@" 2>&1 </dev/null; echo "ffitrace-vm: exit $name $?"; } | cat
}
