<?php
// Passes sixty thousand elements through the extensions that are present: arrays, strings, JSON, XML, DOM, regular expressions.
const ELEMENTS = 60000;

$elements = [];
for ($i = 0; $i < ELEMENTS; $i++) {
    $elements["key $i"] = ['number' => $i, 'text' => str_repeat(chr(97 + $i % 26), $i % 90), 'nested' => [$i, [$i]]];
}
uasort($elements, fn($a, $b) => [strlen($a['text']), $b['number']] <=> [strlen($b['text']), $a['number']]);
$sum = crc32(serialize($elements));
if (function_exists('json_encode')) {
    $sum ^= crc32(json_encode(json_decode(json_encode($elements), true)));
}
if (class_exists('DOMDocument')) {
    $document = new DOMDocument();
    $root = $document->appendChild($document->createElement('list'));
    foreach ($elements as $key => $element) {
        $root->appendChild($document->createElement('item', $element['text']))->setAttribute('key', $key);
    }
    $again = new DOMDocument();
    $again->loadXML($document->saveXML(), LIBXML_PARSEHUGE);
    $sum ^= crc32($again->saveXML());
}
if (function_exists('mb_strtoupper')) {
    foreach ($elements as $element) {
        $sum ^= crc32(mb_strtoupper($element['text'] . 'äöü'));
    }
}
preg_match_all('/[aeiou]+/', implode(' ', array_column($elements, 'text')), $found);
printf("%d elements, %d matches, %08x\n", count($elements), count($found[0]), $sum);
