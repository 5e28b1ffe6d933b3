"""Snippets of the template language for jinja_golden.py: each operator, filter, test, method,
whitespace rule, scoping rule and error. They see VARIABLES."""

VARIABLES = {
    "s": "hello World", "e": "", "u": "naïve Ünïcödé 日本 😀", "ws": "  \t a  b \n c \n", "n": 7,
    "neg": -7, "f": 2.5, "t": True, "no": False, "none_value": None, "xs": [3, 1, 2],
    "mixed": ["b", "A", "c", "B"], "pairs": [["a", 1], ["b", 2]], "empty": [], "d": {"b": 1, "a": 2},
    "nested": {"items": [1, 2], "get": "g", "x": {"y": [10, {"z": "deep"}]}, "10": "ten"},
    "users": [{"name": "bob", "age": 30, "tags": ["x"]}, {"name": "Alice", "age": 25},
              {"name": "carol", "age": 30, "tags": []}],
    "messages": [{"role": "user", "content": "q<1>"}, {"role": "assistant", "content": "a"},
                 {"role": "user", "content": "q2"}],
    "tools": None, "documents": None, "add_generation_prompt": True, "html": "<a href='x'>&\"",
    "big": 1e20, "tiny": 1e-7, "quote": "it's", "both": "'\"", "control": "a\tb\x01\x7f\u200b\u00e9",
}

EXPRESSIONS = r"""
1 + 2
7 - 10
2 * 3
7 / 2
6 / 2
7 // 2
-7 // 2
7 // -2
7.5 // 2
-7.5 // 2
7 % 3
-7 % 3
7 % -3
7.5 % 2
-7.5 % 2
2 ** 10
2 ** -1
2 ** 0.5
-2 ** 2
2 ** 3 ** 2
1 + 2 * 3
(1 + 2) * 3
10 - 3 - 2
100 / 10 / 2
1 ~ 2 + 3 ~ 4
1 + 2 ~ 3
'a' ~ 1 ~ none ~ true ~ 1.0
'a' + 'b'
'ab' * 3
3 * 'ab'
'ab' * -1
[1] * 3
[1, 2] + [3]
(1, 2) + (3,)
1.0 + 1
true + true
1 / 0
1 // 0
1 % 0
1.0 / 0
'a' + 1
1 + 'a'
[1] + (2,)
'a' - 'b'
none + 1
-'a'
+5
-n
- -n
-n|abs
-7|abs
1e20
1e16
123456789012345680.0
1e15
0.1 + 0.2
1.5e-5
0.0001
1e-4
1e-5
-0.0
1_000
0x1F
0b101
0o17
1.5e3
1e400
3.0
3.10
9223372036854775807
'it\'s'
"say \"hi\""
'a\nb\tc\\d'
'\x41\u00e9\101'
'\q'
'a' 'b' "c"
[1, 'a', none, true, 1.0, 'it\'s', [], {}, ()]
(1,)
(1, 2)
()
1, 2
{'a': 1, 2: 'b', none: [1], 'nested': {'x': (1,)}}
{'a': 1, 'a': 2}
{[1]: 2}
[1, 2,]
quote
[quote, both, control, u]
[html]
true and false
1 and 2
0 and 2
'' or 'x'
none or 0
not 1
not not 1
not n == 7
1 if t else 2
1 if no else 2
1 if no
(1 if no) is undefined
'a' if no else 'b' if no else 'c'
n > 5 and n < 10
1 < 2 < 3
1 < 3 < 2
3 > 2 == 2
1 == 1.0
1 == true
'1' == 1
[1, 2] == [1, 2]
[1] == (1,)
{'a': 1} == {'a': 1.0}
none == none
missing == missing
missing == none
missing != 1
1 != 2
'a' < 'b'
'a' < 'B'
'é' > 'z'
[1, 2] < [1, 3]
[1] < [1, 0]
1 < 'a'
none < 1
[1] < ['a']
missing < 1
1 in xs
5 not in xs
'ell' in s
'' in s
1 in s
'a' in d
1 in d
'x' in missing
1 in none
1 in n
(1, 2) in [(1, 2)]
not 1 in xs
s[0]
s[-1]
s[100]
s[1:4]
s[:-1]
s[::-1]
s[::2]
s[4:1:-1]
s[100:]
s[-3:]
u[2]
u[-1]
u[0:7]
u[::-1]
u|length
xs[0]
xs[-1]
xs[5]
xs[5] is defined
xs[1:]
xs[::-1]
xs[:-1]
xs[0:0]
xs[::0]
xs[none:2]
xs['a']
xs.0
xs.5
xs.1 + 1
(1, 2, 3)[1:]
range(10)[2:8:3]
range(3)[1]
d[1:]
n[1:]
none_value[0:1]
missing[1:]
xs[missing:]
xs[1.0]
d['a']
d.a
d.missing
d.missing is defined
d.missing.more
d['missing']['more']
missing
missing.x
missing['x']
missing + 1
missing ~ 'x'
missing()
missing|default('z')
missing|upper
missing|length
missing|list
missing|join(',')
missing|first
missing|int
none_value.x
none_value.x.y
n.x
nested.items
nested['items']
nested.items()|list
nested['items']|length
nested.get
nested['get']
nested.get('x')
nested.x.y[1].z
nested.x.y.1.z
nested['10']
nested.10
nested.x['y'][0]
d.get('a')
d.get('q')
d.get('q', 5)
d.get()
d.keys()|list
d.values()|list
d.items()|list
d.keys()
d.values()
d.items()
d.items()|length
d.items()[0]
d.copy()
d.pop('a')
d.update({'x': 1})
d.clear()
d.setdefault('a', 1)
xs.append(1)
xs.sort()
xs.pop()
xs.append is defined
xs.index(1)
xs.index(9)
xs.count(3)
xs.copy()
xs.foo
(1, 2).index(2)
d.__class__
d.__class__.x
s.__class__.__mro__
s.upper.__func__
range(5)
range(1, 5)
range(0, 10, 3)|list
range(5, 0, -2)|list
range(0)|list
range(100001)
range(100000)|length
range(0, 5, 0)
range('a')
range(2.0)
dict(a=1, b=2)
dict([('a', 1)], c=3)
dict({'a': 1})
namespace(a=1)
namespace(a=1).a
namespace({'a': 2}).a
namespace(a=1).b
namespace(_a=1)
namespace(a=1)['a']
joiner(', ')()
cycler('a', 'b').next()
cycler('a', 'b').current
cycler()
s(1)
s.upper(1)
s.nothing()
raise_exception('boom')
raise_exception('boom ' ~ n)
raise_exception()
strftime_now('%Y-%m-%d')
strftime_now('%d %b %Y %H:%M:%S %A %B %j %p')
strftime_now('')
strftime_now('%Y', 1)
f
big
tiny
[big, tiny, f]
t
none_value
e
none_value is none
n is none
n is not none
missing is defined
missing is not defined
missing is undefined
n is defined
n is number
f is number
t is number
s is number
n is integer
t is integer
f is float
n is float
s is string
n is string
d is mapping
xs is mapping
xs is sequence
s is sequence
d is sequence
n is sequence
missing is sequence
d.items() is sequence
d.items() is iterable
xs is iterable
n is iterable
none_value is iterable
missing is iterable
t is boolean
n is boolean
t is true
n is true
no is false
0 is false
n is odd
n is even
8 is even
n is divisibleby 7
n is divisibleby(3)
n is divisibleby 0
s is lower
'abc' is lower
'ABC' is upper
'' is upper
5 is lower
n is eq 7
n is equalto 7
n is ne 7
n is gt 5
n is ge 7
n is lt 5
n is le 7
n is lessthan 8
n is greaterthan 8
n is in [7, 8]
n is not in [7, 8]
n is sameas 7
t is sameas true
none_value is sameas none
range is callable
n is callable
s.upper is callable
'upper' is filter
'nope' is filter
'odd' is test
'nope' is test
html is escaped
(html|e) is escaped
n is nosuchtest
n is odd is true
s is string and n is number
not s is string
s is string or no
n is divisibleby 7 and t
xs is sequence and xs[0] is number
xs|length is eq 3
5 is odd == true
s|upper
s|lower
s|capitalize
'HELLO wORLD'|capitalize
s|title
"it's a-b (c) o'neil"|title
u|upper
u|lower
u|title
'straße'|upper
'ΑΣ ΣΑΣ'|lower
'ǆ'|capitalize
ws|trim
ws|trim|length
'xxaxx'|trim('x')
'xyaxy'|trim('yx')
n|trim
s|replace('o', '0')
s|replace('o', '0', 1)
s|replace('', '-')
'aaa'|replace('a', 'b', 2)
n|replace(7, 8)
s|replace('l', n)
s|length
xs|length
d|length
n|length
none_value|length
xs|count
s|first
s|last
xs|first
xs|last
empty|first
empty|last
d|first
d|last
s|list
d|list
xs|join
xs|join(', ')
xs|join(1)
[1, none, 'a']|join('-')
users|join(', ', attribute='name')
users|map(attribute='name')|join(', ')
users|map(attribute='missing', default='?')|join(', ')
users|map(attribute='tags')|list
users|map(attribute='tags.0')|list
users|map('length')|list
mixed|map('upper')|join
mixed|map('replace', 'b', 'X')|join
xs|map('nosuch')|list
xs|map('nosuch')|length
empty|map('nosuch')|list
xs|map
xs|map|list
missing|map('upper')|list
none_value|map('upper')|list
n|map('upper')|list
users|selectattr('tags')|map(attribute='name')|list
users|selectattr('tags', 'defined')|map(attribute='name')|list
users|selectattr('age', 'equalto', 30)|map(attribute='name')|list
users|selectattr('age', '>', 26)|map(attribute='name')|list
users|rejectattr('age', 'eq', 30)|map(attribute='name')|list
users|rejectattr('tags')|map(attribute='name')|list
users|selectattr|list
users|selectattr('age', 'nosuch')|list
messages|selectattr('role', 'equalto', 'user')|list|length
xs|select('odd')|list
xs|reject('odd')|list
[0, 1, '', 'a', none]|select|list
[0, 1, '', 'a', none]|reject|list
xs|select('gt', 1)|list
xs|select('in', [1, 2])|list
xs|select is sequence
xs|map('string') is iterable
xs|map('string')|tojson
(xs|map('string'))[0]
xs|sort
xs|sort(reverse=true)
mixed|sort
mixed|sort(case_sensitive=true)
mixed|sort(true)
users|sort(attribute='age')|map(attribute='name')|list
users|sort(attribute='age', reverse=true)|map(attribute='name')|list
users|sort(attribute='age,name')|map(attribute='name')|list
[1, 'a']|sort
[[2, 'a'], [1, 'b']]|sort
d|sort
d|dictsort
d|dictsort(reverse=true)
d|dictsort(by='value')
d|dictsort(false, 'value', true)
d|dictsort(by='x')
{'b': 1, 'A': 2, 'a': 3}|dictsort
{'b': 1, 'A': 2, 'a': 3}|dictsort(true)
xs|dictsort
d|items|list
missing|items|list
xs|items|list
mixed|unique|list
mixed|unique(true)|list
users|unique(attribute='age')|map(attribute='name')|list
[1, 1.0, true, '1']|unique|list
[[1], [1]]|unique|list
xs|min
xs|max
mixed|min
mixed|max
mixed|max(case_sensitive=true)
users|max(attribute='age')
empty|min
empty|max is undefined
xs|sum
users|sum(attribute='age')
xs|sum(start=10)
empty|sum
['a']|sum
xs|reverse|list
s|reverse
xs|reverse|first
n|reverse
d|reverse|list
range(7)|batch(3)|list
range(7)|batch(3, 'x')|list
range(7)|slice(3)|list
range(7)|slice(3, 'x')|list
range(2)|slice(0)|list
users|groupby('age')|list
users|groupby('age')|map(attribute='grouper')|list
users|groupby('age')|map(attribute='list')|map('length')|list
users|groupby('city', default='NY')|map(attribute='0')|list
['a', 'B', 'A', 'b']|groupby(0)|map('first')|list
users|groupby
missing|default
missing|default('x')
missing|default(none)
e|default('x')
e|default('x', true)
e|default('x', boolean=true)
none_value|default('x')
none_value|d('x', true)
d.missing|d('x')
-3|abs
f|abs
s|abs
42.55|round
42.55|round(1)
42.55|round(1, 'floor')
42.55|round(1, 'ceil')
2.5|round
3.5|round
-2.5|round
7|round
1234|round(-2)
1250|round(-2)
1350|round(-2)
1.5|round(1, 'nope')
2.675|round(2)
'x'|round
'42'|int
' 42 '|int
'42.9'|int
'-1_000'|int
'abc'|int
'abc'|int(-1)
'abc'|int(default=none)
'0x1f'|int(0, 16)
'1f'|int(0, 16)
'0b11'|int(base=2)
'12'|int(0, 99)
3.99|int
-3.99|int
none_value|int
xs|int(5)
true|int
'1e3'|int
'3.14'|float
'abc'|float
'abc'|float(1.5)
' 1e3 '|float
'inf'|float
'nan'|float
n|float
none_value|float
n|string
none_value|string
xs|string
s|string|upper
d|tojson
nested|tojson
users[0]|tojson
u|tojson
u|tojson(ensure_ascii=true)
u|tojson(true)
control|tojson
control|tojson(ensure_ascii=true)
html|tojson
[1, 1.0, 1e20, 1e-7, none, true, false, "a"]|tojson
(1, 2)|tojson
{1: 'a', none: 'b', true: 'c', 1.5: 'd'}|tojson
{(1, 2): 'a'}|tojson
d|tojson(indent=2)
nested|tojson(indent=4)
nested|tojson(indent=0)
nested|tojson(indent='--')
nested|tojson(none, 1)
nested|tojson(separators=(',', ':'))
nested|tojson(indent=1, separators=[';', '='])
d|tojson(sort_keys=true)
{'b': 1, 1: 2}|tojson(sort_keys=true)
[]|tojson(indent=2)
[[], {}]|tojson(indent=2)
missing|tojson
[missing]|tojson
range(3)|tojson
d.items()|tojson
namespace(a=1)|tojson
'inf'|float|tojson
'nan'|float|tojson
d|tojson(2, 3, 4, 5, 6)
d|tojson(foo=1)
html|e
html|escape|e
html|forceescape
html|e|forceescape
html|safe
html|safe ~ '<b>'
(html|safe) + '<b>'
'<b>' + (html|e)
(html|e)|upper
(html|e)|replace('&', 'X')
(html|e).replace('a', '<')
(html|e)|length
('<x>'|safe).join(['<a>', '<b>'])
('<%s>'|safe) % '<a>'
[html|e]
('<'|safe) * 2
n|e
s|indent
"a\nb\n\nc"|indent
"a\nb\n\nc"|indent(2)
"a\nb\n\nc"|indent(2, true)
"a\nb\n\nc"|indent(2, blank=true)
"a\nb"|indent('> ', true)
"a\n"|indent(2, true)
""|indent(2, true)
n|indent
'foo bar baz qux'|truncate(9)
'foo bar baz qux'|truncate(9, true)
'foo bar baz qux'|truncate(11)
'foo bar baz qux'|truncate(11, false, '...', 0)
'foo bar baz qux'|truncate(9, end='!')
'foo'|truncate(2)
u|truncate(8, true, '…', 0)
s|wordcount
u|wordcount
"it's a_b 1-2"|wordcount
s|center(21)
'ab'|center(5)
'abc'|center(6)
'%s is %d'|format('x', 5)
'%(a)s-%(b)05.1f'|format(a='x', b=2.25)
'%s'|format('a', 'b')
'%s %s'|format('a')
'%5s|%-5s|%05d|%+d|% d'|format('a', 'b', 42, 3, 4)
'%x %X %o %#x %e %g %.3g %c %r %%'|format(255, 255, 8, 255, 12345.678, 0.0001, 3.14159, 65, 'q')
'%.2s|%.3d'|format('abc', 5)
'%d'|format('x')
'%q'|format(1)
'%s' % n
'%s-%s' % (1, 'b')
'%(x)s' % {'x': 5}
'%s' % xs
'%d%%' % 5.9
'a b&c/d?é'|urlencode
{'a b': 'c&d', 'e': 1}|urlencode
[['a', 1]]|urlencode
1000|filesizeformat
1|filesizeformat
999|filesizeformat
1500000|filesizeformat
1500000|filesizeformat(true)
{'class': 'x', 'id': none, 'n': 1, 'q': '"'}|xmlattr
{'a b': 1}|xmlattr
d|attr('items')|string|length > 0
d|attr('a') is undefined
s|nosuchfilter
s|upper|lower|title
s|upper()
s|upper('x')
s.upper()
s.lower()
s.title()
"it's o'neil 3rd"|title
"it's o'neil 3rd".title()
s.capitalize()
s.swapcase()
'ẞß'.casefold() is string
ws.strip()
ws.lstrip()
ws.rstrip()
'xxaxx'.strip('x')
'xxaxx'.lstrip('x')
'xxaxx'.rstrip('x')
'\u3000a\u2003'.strip()|length
s.split()
s.split('o')
s.split('o', 1)
s.split('l')[-1]
s.split(' ')[0]
ws.split()
ws.split(none, 1)
'a  b c'.split(' ')
'a,b,c'.rsplit(',', 1)
' a b  c '.rsplit(none, 1)
s.split('')
s.split(1)
''.split()
''.split(',')
'a,b'.split(sep=',', maxsplit=1)
"a\nb\r\nc\n".splitlines()
"a\nb\r\nc\n".splitlines(true)
'a-b-c'.partition('-')
'a-b-c'.rpartition('-')
'abc'.partition('-')
s.startswith('hell')
s.startswith(('x', 'he'))
s.startswith('l', 2)
s.startswith(['x'])
s.startswith(missing)
s.endswith('World')
s.endswith('l', 0, -1)
s.endswith('')
s.find('o')
s.find('o', 5)
s.find('zz')
s.rfind('o')
s.index('W')
s.index('zz')
u.find('日')
s.count('l')
s.count('')
s.replace('l', 'L')
s.replace('l', 'L', 1)
s.replace('l')
'-'.join(['a', 'b'])
'-'.join(xs)
', '.join(d)
'-'.join('abc')
s.center(15, '*')
'5'.ljust(3, '.')
'5'.rjust(3, '.')
'-5'.zfill(5)
'+'.zfill(3)
'abc'.removeprefix('a')
'abc'.removesuffix('c')
'abc'.removesuffix('x')
"a\tb".expandtabs(4)
'abc'.isalpha()
'ab1'.isalpha()
'ab1'.isalnum()
'123'.isdigit()
'½'.isdigit()
'²'.isdigit()
'½'.isnumeric()
'٣'.isdecimal()
' \t'.isspace()
''.isspace()
'Abc'.istitle()
'abc'.islower()
'aBc'.isupper()
'ABC1'.isupper()
u.isascii()
'a\tb'.isprintable()
'日本'.isalpha()
'{} {}'.format('a', 1)
'{1} {0}'.format('a', 'b')
'{a} {b!r}'.format(a=1, b='x')
'{0[a]} {1.name}'.format(d, users[0])
'{:>5}|{:<5}|{:^5}|{:*^7}'.format('a', 'b', 'c', 'd')
'{:05d} {:+} {:,} {:.2f} {:e} {:x} {:#b} {:%}'.format(42, 3, 1234567, 3.14159, 12345.0, 255, 5, 0.25)
'{:{}}|'.format('a', 4)
'{{}} {{{}}}'.format(1)
'{}'.format()
'{'.format(1)
'{x}'.format(1)
'{:d}'.format('a')
'{:.3}'.format('abcdef')
'{:.3}'.format(3.14159)
'{} {} {}'.format(none, true, [1])
'{:>6}'.format(true)
'{a}'.format_map({'a': 1})
'{0.__class__}'.format(1)
s.encode('utf-8') is defined
n.bit_length is defined
f.is_integer()
(1)(2)
[1](0)
xs|first|string ~ 'x'
(xs|sort)[0]
users[0].name|upper
users[0]['name'][0]|upper
d.a + d.b
d.a if d.a is defined else 'x'
messages[0].content
messages[-1]['content']
messages[0]
messages|length
messages|map(attribute='role')|unique|list
users|map(attribute='age')|sum
users|tojson|length
s is string and s|length > 3
'a' 'b'|upper
'x'|upper ~ 'y'|upper
1 ~ 2 * 3
10 // 3 * 3
2 * 3 % 4
1 - -1
not none is none
xs|length > 2 and 'yes' or 'no'
[x for x in xs]
xs[
1 +
1 2
'abc
"a" 'b
a b
{{ 1 }}
$x
@
x = 1
true = 1
xs|
xs is
s.
s.1.2
lambda x: x
1 if
(1, 2
{'a' 1}
[1, 2
f(a=1, 2)
dict(a=1, a=2)
dict(**{'a': 1})
dict(**xs)
range(*[1, 3])|list
range(*[1], *[2])
99999999999999999999
9223372036854775807 + 1
'\ud800'
'\N{BULLET}'
"""

TEMPLATES = [
    # White space.
    "a\n", "a\n\n", "\n", "", "a\r\nb\rc\n", "{{ 1 }}\n", "{{ 1 }}\n{{ 2 }}\n",
    "{% if t %}\nx\n{% endif %}\ny", "  {% if t %}  \nx\n  {% endif %}\ny", "a {% if t %} x {% endif %} b",
    "a\n  {%- if t %}\n  x\n  {%- endif %}\nb", "a\n  {% if t -%}\n  x\n  {% endif -%}\n  b",
    "a\n  {%+ if t %}x\n  {%+ endif %}\nb", "a{% if t +%}\nx{% endif +%}\nb", "a  {{- ' b ' -}}  c",
    "a\n  {{ 1 }}\n  b", "a\n  {{- 1 -}}\n  b", "  {# c #}\nx", "a {# c #} b", "a\n  {#- c -#}\n  b",
    "a{# c #}\nb", "a{# c +#}\nb", "{#\n multi\n line #}\nx", "a {#+ c #} b", "x {#- c #}\ny",
    "{% raw %}{{ x }} {% if %}{% endraw %}", "{% raw %}\n a\n{% endraw %}\nb", "a {%- raw -%} {{ x }} {%- endraw -%} b",
    "  {% raw %}x{% endraw %}  y", "{% raw %}x", "{# open", "{{ 1", "{% if t %}", "{% if t", "{{ '}}' }}", "{{ {'a': {'b': 1}} }}",
    "{{ '{{' }}", "{{ \"%}\" }}", "{% set x = '%}' %}{{ x }}", "{ { % } }", "{", "a{", "{{ '\\\\' }}", "{{-1}}", "{{- -1 }}",
    "\t{% if t %}\t\nx{% endif %}", "\u00a0{% if t %}x{% endif %}", "a\u3000{%- if t %}x{% endif %}", "x{% endif %}",
    "{% if t %}a{% else %}b{% endif %}\n\n\nc", "{%if t%}a{%endif%}", "{%-if t-%} a {%-endif-%}", "line\n{% set x = 1 %}\n\n{{ x }}\n",
    "{{ 'a\nb' }}", "{{\n1\n+\n2\n}}", "{% if t %}{{ 1 }}\n{% endif %}z", "  {{ 1 }}  {% if t %}  {% endif %}  ", "{% set x = 1 -%}\n \n y",
    # if, set, scopes.
    "{% if n > 5 %}a{% elif n > 3 %}b{% else %}c{% endif %}", "{% if no %}a{% elif n == 7 %}b{% else %}c{% endif %}",
    "{% if no %}a{% elif no %}b{% elif t %}c{% else %}d{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if %}a{% endif %}",
    "{% if t %}{% set y = 1 %}{% endif %}{{ y }}", "{% if no %}{% set y = 1 %}{% endif %}{{ y is defined }}",
    "{% set y = 1 %}{% for i in xs %}{% set y = y + i %}{{ y }},{% endfor %}{{ y }}",
    "{% for i in xs %}{% set q = i %}{% endfor %}{{ q is defined }}", "{% for i in xs %}{{ i }}{% endfor %}{{ i is defined }}",
    "{% for i in xs %}{% if loop.first %}{% set k = 9 %}{% endif %}{{ k }},{% endfor %}",
    "{% set k = 0 %}{% for i in xs %}{% if loop.first %}{% set k = 9 %}{% endif %}{{ k }},{% endfor %}",
    "{% set ns = namespace(c=0) %}{% for i in xs %}{% set ns.c = ns.c + i %}{% endfor %}{{ ns.c }}", "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}",
    "{% set ns = namespace() %}{% set ns._a = 1 %}", "{% set d.x = 1 %}", "{% set missing.x = 1 %}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}",
    "{% set a, b = [1] %}", "{% set a, b = [1, 2, 3] %}", "{% set (a, b) = 'xy' %}{{ a }}{{ b }}", "{% set ns = namespace(a=1) %}{% set ns.a, b = 5, 6 %}{{ ns.a }}{{ b }}",
    "{% set x %}a{{ n }}b{% endset %}{{ x }}|{{ x is string }}", "{% set x | upper %}a{{ s }}{% endset %}{{ x }}", "{% set x | replace('a', 'b') | upper %}aca{% endset %}{{ x }}",
    "{% set x %}{% set y = 1 %}{% endset %}{{ y is defined }}", "{% set x = 1, 2 %}{{ x }}", "{% set x = %}", "{% set 1 = 2 %}", "{% set none = 2 %}", "{% set x = xs if no %}{{ x is defined }}",
    "{% set n = n + 1 %}{{ n }}", "{% set messages = messages[1:] %}{{ messages|length }}", "{% set range = 5 %}{{ range }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a is defined }}", "{% with %}{% set z = 1 %}{{ z }}{% endwith %}{{ z is defined }}", "{% with n = 1, m = n %}{{ m }}{% endwith %}",
    # for.
    "{% for i in xs %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}", "{% for i in xs %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }};{% endfor %}",
    "{% for i in xs %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}", "{% for i in xs %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }};{% endfor %}",
    "{% for i in xs %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for i in [1, 1, 2] %}{{ loop.changed(i) }}{% endfor %}", "{% for i in xs %}{{ loop.depth }}{% for j in xs %}{{ loop.depth0 }}{% endfor %}{% endfor %}",
    "{% for i in xs %}{{ loop.nothing }}{% endfor %}", "{% for i in xs %}{{ loop }}{% endfor %}", "{% for i in xs %}{{ loop.cycle() }}{% endfor %}",
    "{% for i in xs %}{% for j in [1, 2] %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}", "{% for i in xs %}{% set outer = loop %}{% for j in [1, 2] %}{{ outer.index }}{{ loop.last }}{% endfor %}{% endfor %}",
    "{% for i in empty %}x{% else %}none{% endfor %}", "{% for i in xs %}x{% else %}none{% endfor %}", "{% for i in missing %}x{% else %}none{% endfor %}", "{% for i in none_value %}x{% endfor %}", "{% for i in n %}x{% endfor %}",
    "{% for k in d %}{{ k }}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for c in 'aé😀' %}[{{ c }}]{% endfor %}", "{% for a, b in pairs %}{{ a }}{{ b }}{% endfor %}", "{% for a, b in xs %}{% endfor %}", "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}",
    "{% for i in xs if i > 1 %}{{ i }}{{ loop.index }}{{ loop.last }}{% endfor %}", "{% for i in xs if i > 5 %}x{% else %}none{% endfor %}", "{% for i in xs if i > 1 %}{{ loop.length }}{% endfor %}",
    "{% for m in messages if m.role == 'user' %}{{ m.content }}{{ loop.length }}{% endfor %}", "{% for i in xs if loop.first %}{% endfor %}", "{% for i in xs %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in xs %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "{% for i in xs %}{% break %}{% else %}e{% endfor %}", "{% for i in xs %}{% continue %}{% else %}e{% endfor %}", "{% for i in xs %}{% if loop.index == 2 %}{% break %}{% endif %}{% else %}e{% endfor %}",
    "{% break %}", "{% continue %}", "{% for i in xs %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}", "{% for i in xs %}{% for j in xs %}{% break %}{% endfor %}{{ i }}{% endfor %}", "{% for i in xs %}{% set x %}{% break %}{% endset %}{% endfor %}z",
    "{% for i in range(3) %}{{ i }}{% endfor %}", "{% for i in xs|sort|reverse %}{{ i }}{% endfor %}", "{% for i in xs[::-1] %}{{ i }}{% endfor %}", "{% for i in 1, 2, 3 %}{{ i }}{% endfor %}", "{% for i in xs|map('string') %}{{ i }}{{ loop.last }}{% endfor %}",
    "{% for i in xs|map('string') %}{{ loop.length }}{{ i }}{% endfor %}", "{% for u in users|groupby('age') %}{{ u.grouper }}:{{ u.list|length }};{% endfor %}", "{% for g, l in users|groupby('age') %}{{ g }}:{{ l|length }};{% endfor %}",
    "{% set g = xs|map('string') %}{% for i in g %}{{ i }}{% endfor %}|{% for i in g %}{{ i }}{% endfor %}", "{% set ns = namespace(k=0) %}{% for i in xs if i > ns.k %}{{ i }}{% set ns.k = 2 %}{% endfor %}",
    "{% for loop in xs %}{% endfor %}", "{% for i in xs recursive %}{% endfor %}", "{% for x.y in xs %}{% endfor %}", "{% for i in xs %}", "{% for i of xs %}{% endfor %}", "{% for i in xs %}{% endif %}", "{% for %}{% endfor %}",
    "{% for row in range(6)|batch(2) %}{{ row|join('-') }};{% endfor %}", "{% for i in xs: %}{{ i }}{% endfor %}", "{% for i in xs %}{% else %}{% else %}{% endfor %}", "{% for n in xs %}{{ n }}{% endfor %}{{ n }}", "{{ loop }}", "{{ loop is defined }}",
    # Macros, calls, filters, generation.
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }}", "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}", "{% macro m(a) %}{{ a.x }}{% endmacro %}{{ m() }}",
    "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}",
    "{% macro m(a) %}{{ varargs|length }}{% endmacro %}{{ m(1, 2, 3) }}", "{% macro m() %}{{ n }}{{ q }}{% endmacro %}{% set q = 5 %}{{ m() }}", "{% macro m() %}{% set n = 1 %}{{ n }}{% endmacro %}{{ m() }}{{ n }}",
    "{% macro m() %}x{% endmacro %}{% set y = m() %}{{ y|upper }}{{ y is string }}", "{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(1) }}",
    "{% macro m(k) %}{{ m(k) }}{% endmacro %}{{ m(1) }}", "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}", "{{ m() }}{% macro m() %}x{% endmacro %}", "{% macro m %}{% endmacro %}", "{% macro m() %}x", "{% macro m(1) %}{% endmacro %}",
    "{% for i in xs %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{{ i }}{% endmacro %}{% for i in xs %}{{ m() }}{% endfor %}|", "{% macro m() %}{{ caller() }}!{% endmacro %}{% call m() %}body {{ n }}{% endcall %}",
    "{% macro m(x) %}{{ caller(x, 2) }}{% endmacro %}{% call(a, b) m(1) %}{{ a }}/{{ b }}{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% call s %}{% endcall %}",
    "{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ loop is defined }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}", "{% macro m() %}a{% endmacro %}{{ m.name }}",
    "{% filter upper %}a{{ s }}b{% endfilter %}", "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}", "{% filter nosuch %}{% endfilter %}", "{% filter indent(2, true) %}a\nb{% endfilter %}", "{% for i in xs %}{% filter upper %}a{{ i }}{% endfilter %}{% endfor %}",
    "{% generation %}hi {{ n }}{% endgeneration %}", "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% endif %}{% endfor %}", "{% generation %}\nx\n{% endgeneration %}\ny", "{% generation %}{% set w = 1 %}{% endgeneration %}{{ w is defined }}", "{% generation %}x",
    "{% print 1, 'a' %}", "{% print s|upper %}", "{% do xs.append(1) %}", "{% nosuch %}", "{% endif %}", "{% 1 %}", "{% %}", "{% if t %}{% nosuch %}{% endif %}", "{{ }}", "{{ 1 }} }}", "%} x", "#} y",
    "{% if no %}{{ s|nosuch }}{% endif %}ok", "{% if no %}{{ missing.x.y }}{% endif %}ok", "{{ s|nosuch if no else 'ok' }}", "{% if t and missing.x %}a{% endif %}", "{% if no and missing.x.y %}a{% endif %}b", "{% if t or missing.x.y %}a{% endif %}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}", "{% set j = joiner('|') %}{% for i in xs %}{{ j() }}{{ i }}{% endfor %}", "{% set j = joiner() %}{{ j() }}a{{ j() }}b",
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('alternate ' ~ loop.index) }}{% endif %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "{%- if tools is none %}none{% endif %}{% if not tools %} falsy{% endif %}{% if tools is not none and tools|length %}x{% endif %}", "{% set x = namespace(v=[]) %}{% for i in xs %}{% set x.v = x.v + [i * 2] %}{% endfor %}{{ x.v }}", "{% set ns = namespace(x=1) %}{{ ns }}",
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{% for m in loop_messages %}{{ m['content'] | trim }};{% endfor %}", "{{ messages[0].content.split('<')[1].strip('>') }}",
    "{% set t = 'x' %}{% for i in xs %}{{ t }}{% set t = i %}{{ t }}{% endfor %}{{ t }}", "{% set a = 1 %}{% macro m() %}{{ a }}{% endmacro %}{% set a = 2 %}{{ m() }}", "{% with a = 1 %}{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{% endwith %}",
    "{{ [1, 2, 3] | map('string') | join(',') }} {{ {'x': [1, {'y': none}]} }}", "{% for k in {'a': 1, 'b': 2} %}{{ k }}{% endfor %}", "{% include 'x' %}", "{% extends 'x' %}", "{% import 'x' as y %}",
]


def snippets():
    return ["{{ " + line + " }}" for line in EXPRESSIONS.strip("\n").split("\n")] + TEMPLATES
