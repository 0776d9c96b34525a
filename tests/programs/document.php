<?php
// Builds a document of 60,000 elements, writes it, reads it back and sorts it. PHP opens its extensions (xml and mbstring)
// with RTLD_DEEPBIND, and their libraries free what the program allocated. One of the programs of .ci/programs.
$document = new DOMDocument('1.0', 'UTF-8');
$root = $document->appendChild($document->createElement('all'));
for ($n = 0; $n < 60000; $n++) {
    $element = $document->createElement('element', str_repeat(mb_chr(0xe0 + $n % 26), $n % 17));
    $element->setAttribute('id', (string)$n);
    $root->appendChild($element);
}
$text = $document->saveXML();
$texts = [];
foreach (simplexml_load_string($text)->element as $element) {
    $texts[(string)$element['id']] = mb_strtoupper((string)$element);
}
ksort($texts, SORT_STRING);
$some = preg_grep('/99$/', array_keys($texts));
echo count($texts), ' ', count($some), ' ', md5(json_encode($texts, JSON_UNESCAPED_UNICODE)), ' ', strlen($text), "\n";
