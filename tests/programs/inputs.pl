#!/usr/bin/perl
# Creates the inputs of the programs of .ci/programs, always the same: on stdout, of the kind that the argument names.
#     lines     a file of a million lines, for sort and xz
#     c         a C file of many functions, for gcc
#     history   a repository of some hundred commits, for `git fast-import`
use strict;
use warnings;

my $state = 2004;

sub pick {
    my ($below) = @_;
    $state = ($state * 1103515245 + 12345) % 2147483648;
    return int($state / 65536) % $below;
}

sub lines {
    my @word = map { join '', map { chr(97 + pick(26)) } 0 .. 2 + pick(7) } 1 .. 3000;
    for my $line (1 .. 1_000_000) {
        print join(' ', pick(30000), map { $word[ pick(3000) ] } 0 .. pick(4)), "\n";
    }
}

sub c {
    print "#include <stdint.h>\n#include <stdlib.h>\n#include <string.h>\n#include <stdio.h>\n";
    for my $f (0 .. 79) {
        my $fields = 3 + pick(6);
        print "struct s$f { ", (map { ("uint8_t", "int", "long", "double")[ pick(4) ] . " f$_; " } 0 .. $fields),
            "struct s$f *next; };\n";
        print "static long walk$f(struct s$f *s, unsigned n)\n{\n    long sum = n;\n";
        print "    for (; s && n; s = s->next, n--) {\n        switch ((unsigned)sum % 11) {\n";
        for my $case (0 .. 10) {
            my ($a, $b, $k) = (pick($fields + 1), pick($fields + 1), 1 + pick(99));
            print "        case $case: s->f$a += s->f$b * $k; sum ^= (long)s->f$a << ", pick(20), "; break;\n";
        }
        print "        }\n    }\n    return sum;\n}\n";
        print "long run$f(unsigned n)\n{\n    struct s$f *list = 0;\n    for (unsigned i = 0; i < n; i++) {\n",
            "        struct s$f *s = calloc(1, sizeof *s);\n        if (!s) return -1;\n",
            "        s->f0 = i; s->next = list; list = s;\n    }\n    long sum = walk$f(list, n)",
            ($f ? " + run" . pick($f) . "(n / 2)" : ''), ";\n",
            "    while (list) { struct s$f *next = list->next; free(list); list = next; }\n    return sum;\n}\n";
    }
    print "int main(void)\n{\n    printf(\"%ld\\n\", run79(100));\n    return 0;\n}\n";
}

sub history {
    my @content = map { [ map { "line $_ of " . pick(1000) } 1 .. 100 + pick(200) ] } 0 .. 59;
    my $mark = 0;
    for my $commit (1 .. 400) {
        my @changed = map { pick(60) } 0 .. pick(5);
        my %mark;
        for my $file (@changed) {
            my $lines = $content[$file];
            splice @$lines, pick(scalar @$lines), pick(4), map { "commit $commit says " . pick(10000) } 0 .. pick(8);
            my $text = join "\n", @$lines, '';
            $mark{$file} = ++$mark;
            printf "blob\nmark :%d\ndata %d\n%s\n", $mark, length $text, $text;
        }
        my $message = "Change " . join(', ', sort { $a <=> $b } keys %mark) . "\n\nThe commit numbered $commit.\n";
        my $date = 1_085_000_000 + 3600 * $commit;
        print "commit refs/heads/main\n";
        printf "committer A U Thor <author\@example.com> %d +0000\ndata %d\n%s\n", $date, length $message, $message;
        printf "M 100644 :%d folder%d/file%d.txt\n", $mark{$_}, $_ % 7, $_ for sort { $a <=> $b } keys %mark;
        print "\n";
        printf "reset refs/tags/v%d\nfrom refs/heads/main\n\n", $commit / 50 if $commit % 50 == 0;
    }
    print "done\n";
}

my %kind = (lines => \&lines, c => \&c, history => \&history);
my $make = $kind{ $ARGV[0] // '' } or die "usage: inputs.pl lines|c|history\n";
$make->();
