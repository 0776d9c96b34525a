#!/usr/bin/env bash
# A day's work with git in a clone of the repository given as argument: clone, log, blame, grep, commit, merge, gc,
# fsck. Its results go to files in the current directory; the clone itself, whose packs depend on the timing of git's
# threads, is removed. One of the programs of .ci/programs.
set -euo pipefail

export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_TERMINAL_PROMPT=0
export GIT_AUTHOR_NAME=Author GIT_AUTHOR_EMAIL=author@example.com GIT_AUTHOR_DATE='1086000000 +0000'
export GIT_COMMITTER_NAME=Author GIT_COMMITTER_EMAIL=author@example.com GIT_COMMITTER_DATE='1086000000 +0000'

# Without hard links the clone reads and writes every object.
git clone --quiet --no-local "$1" clone
git -C clone log --stat >stat.txt
git -C clone log -p -M --all --topo-order >patches.txt
git -C clone shortlog -s -n v1..v4 >shortlog.txt
git -C clone blame folder3/file3.txt >blame.txt
git -C clone grep --count --threads=4 'says 1' v6 >grep.txt

git -C clone checkout --quiet -b side v3
for number in 1 2 3; do
    echo "line $number of the side" >>clone/side.txt
    git -C clone add side.txt
    git -C clone commit --quiet -m "Side $number"
done
git -C clone checkout --quiet main
git -C clone merge --quiet --no-edit side
git -C clone rev-parse main >head.txt

git -C clone -c pack.threads=2 gc --quiet --aggressive --prune=now
git -C clone fsck --full --strict >fsck.txt 2>&1
git -C clone rev-list --objects --all >objects.txt
git -C clone cat-file --batch-all-objects --batch-check >contents.txt
git -C clone archive --format=tar main >main.tar
rm -rf clone
