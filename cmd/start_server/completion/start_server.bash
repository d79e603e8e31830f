# bash completion for start_server(1)

_start_server() {
    COMPREPLY=()
    local words=() word glue= i
    # bash breaks --option=value at the =
    for ((i = 1; i <= COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if ((${#words[@]})) && [[ $word == = || $glue ]]; then
            words[-1]+=$word
        else
            words+=("$word")
        fi
        [[ $word == = ]] && glue=yes || glue=
        if [[ $word == -- ]] && ((i < COMP_CWORD)); then
            _start_server_program $((i + 1))
            return
        fi
    done
    local current=${words[-1]} item
    # --version: an older start_server that knows nothing of completion is not to start anything.
    while IFS=$'\t' read -r item _; do
        [[ $item == "$current"* ]] || continue
        [[ $current == *=* ]] && item=${item#*=}
        COMPREPLY+=("$item")
    done < <(GO_FLAGS_COMPLETION=1 "${1/#\~/$HOME}" --version "${words[@]}" 2>/dev/null)
}

# What stands behind the -- is completed as a command line of its own, as far as bash-completion is there.
_start_server_program() {
    if declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$1"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$1"
    elif ((COMP_CWORD == $1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}

complete -o default -F _start_server start_server
