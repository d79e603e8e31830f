# fish completion for start_server(1)

function __start_server_options
    set -l words (commandline -opc) (commandline -ct)
    # --version: an older start_server that knows nothing of completion is not to start anything.
    GO_FLAGS_COMPLETION=1 $words[1] --version $words[2..] 2>/dev/null
end

# What stands behind the -- is completed as a command line of its own.
function __start_server_program
    set -l words (commandline -opc)
    set -l program (contains -i -- -- $words)
    set -l line (string join -- ' ' (string escape -- $words[(math $program + 1)..]) (commandline -ct))
    complete --do-complete="$line"
end

complete -c start_server -n 'not contains -- -- (commandline -opc)' -a '(__start_server_options)'
complete -c start_server -n 'contains -- -- (commandline -opc)' -f -a '(__start_server_program)'
