package homekv.cli;

import homekv.storage.Bytes;
import homekv.storage.Compare;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.Txn;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The little language of {@code hkvctl txn}: a line a condition or step. One {@code char} a byte. */
final class TxnScript {
    static final String HELP = """
            hkvctl txn [FILE|-]: carries out a transaction, all of it in one revision

            Reads a script from FILE or standard input, a line a condition or step:

              # Money moves only if there is enough of it.
              if account:ada value = 60
              if account:bob exists
              then
                put account:ada=50
                incr account:bob 10
              else
                get account:ada

            Conditions; all have to hold for then, else the steps behind else are carried out:
              if TARGET value =|!=|<|> VALUE      in the order of bytes; nothing behind it is the empty value
              if TARGET version|create|mod|lease =|!=|<|> NUMBER
              if TARGET count =|!=|<|> NUMBER     how many keys there are
              if TARGET exists
              if TARGET absent
            Without conditions there is no need for then. An absent key has the numbers 0 and no value; a condition of a
            range other than the last three has to hold for every key in it. create and mod are the revisions that
            created the key and wrote its value; version is how often it was written since.

            Steps, each seeing what those before it did:        prints
              get KEY                                           KEY=VALUE or KEY (not found)
              scan [PREFIX] [limit N]                           KEY=VALUE for each key, then found=2
              count [PREFIX]                                    found=2
              put KEY=VALUE [lease ID]                          put KEY
              del TARGET                                        deleted=1
              delprefix PREFIX                                  deleted=2
              incr KEY [BY]                                     KEY=SUM

            TARGET is a KEY, prefix:P for all keys that begin with P, or range:A..B for the keys from A up to B; scan
            and count take the last two as well. Bytes can be given as \\xHH; a space is \\x20, and a key that begins
            with prefix: is written \\x70refix:. Empty lines and lines that begin with # say nothing.

            The first line printed is OK revision=7, or ELSE revision=7 where a condition did not hold; then a line for
            each step that was carried out. Exit code: 0, or 4 for ELSE; a wrong line is 2, and nothing is sent.
            """;

    private static final Pattern CONDITION = Pattern.compile(
            "([^ \t]+)[ \t]+(value|version|create|mod|lease|count)[ \t]*(==?|!=|[<>](?!=))[ \t]*([^ \t]*)");

    private static final Pattern PRESENCE = Pattern.compile("([^ \t]+)[ \t]+(exists|absent)");

    private enum Part {
        CONDITIONS,
        THEN,
        OTHERWISE
    }

    private final List<Compare> compares = new ArrayList<>();
    private final List<Op> then = new ArrayList<>();
    private final List<Op> otherwise = new ArrayList<>();
    private Part part = Part.CONDITIONS;

    private TxnScript() {}

    /** The transaction that a script describes; a wrong line is named by its number. */
    static Txn parse(String script) throws UsageException {
        TxnScript parsed = new TxnScript();
        String[] lines = withoutByteOrderMark(script).split("\r?\n", -1);
        for (int i = 0; i < lines.length; i++) {
            String line = trimmed(lines[i]);
            if (line.isEmpty() || line.startsWith("#")) {
                continue;
            }
            try {
                parsed.take(line);
            } catch (UsageException e) {
                throw new UsageException("line " + (i + 1) + ": " + e.getMessage());
            }
        }
        if (parsed.then.isEmpty() && parsed.otherwise.isEmpty()) {
            throw new UsageException("the script has no step; hkvctl txn --help shows one");
        }
        return new Txn(parsed.compares, parsed.then, parsed.otherwise);
    }

    /** Without spaces and tabs around it; other bytes that Java takes for space are part of a value. */
    private static String trimmed(String line) {
        return line.replaceFirst("^[ \t]+", "").replaceFirst("[ \t]+$", "");
    }

    private void take(String line) throws UsageException {
        List<String> words = Arrays.asList(line.split("[ \t]+"));
        List<String> rest = words.subList(1, words.size());
        switch (words.get(0)) {
            case "if" -> {
                if (part != Part.CONDITIONS || !then.isEmpty()) {
                    throw new UsageException("conditions stand in front of all steps; move this one up");
                }
                compares.add(compare(trimmed(line.substring(2))));
            }
            case "then" -> begin(Part.THEN, rest, part == Part.CONDITIONS && then.isEmpty());
            case "else" -> begin(Part.OTHERWISE, rest, part == Part.THEN && !compares.isEmpty());
            default -> {
                Op step = step(words.get(0), rest);
                if (part == Part.CONDITIONS && !compares.isEmpty()) {
                    throw new UsageException("write then on a line in front of the first step");
                }
                (part == Part.OTHERWISE ? otherwise : then).add(step);
            }
        }
    }

    private void begin(Part next, List<String> rest, boolean allowed) throws UsageException {
        String word = next == Part.THEN ? "then" : "else";
        if (!rest.isEmpty()) {
            throw new UsageException(word + " stands alone on its line; write the step on the next one");
        }
        if (!allowed) {
            throw new UsageException(
                    next == Part.THEN
                            ? "then stands once, behind the conditions and in front of all steps"
                            : "else stands once, behind conditions, then and its steps");
        }
        part = next;
    }

    private static Compare compare(String condition) throws UsageException {
        Matcher presence = PRESENCE.matcher(condition);
        if (presence.matches()) {
            boolean exists = presence.group(2).equals("exists");
            return new Compare.Count(
                    target(presence.group(1)), exists ? Compare.Operator.GREATER : Compare.Operator.EQUAL, 0);
        }
        Matcher parts = CONDITION.matcher(condition);
        if (!parts.matches()) {
            throw new UsageException("write if TARGET value|version|create|mod|lease|count =|!=|<|> OPERAND, or if"
                    + " TARGET exists|absent; a space within a key or value as \\x20");
        }
        Range range = target(parts.group(1));
        String operand = parts.group(4);
        Compare.Operator operator = switch (parts.group(3)) {
            case "=", "==" -> Compare.Operator.EQUAL;
            case "!=" -> Compare.Operator.NOT_EQUAL;
            case "<" -> Compare.Operator.LESS;
            default -> Compare.Operator.GREATER;
        };
        return switch (parts.group(2)) {
            case "value" -> new Compare.Value(range, operator, Text.bytes(operand));
            case "count" -> new Compare.Count(range, operator, number("count", operand));
            case "version" -> number(range, Compare.Field.VERSION, operator, operand);
            case "create" -> number(range, Compare.Field.CREATE_REVISION, operator, operand);
            case "mod" -> number(range, Compare.Field.MODIFICATION_REVISION, operator, operand);
            default -> number(range, Compare.Field.LEASE, operator, operand);
        };
    }

    private static Compare number(Range range, Compare.Field field, Compare.Operator operator, String operand)
            throws UsageException {
        return new Compare.Number(range, field, operator, number("this condition", operand));
    }

    private static long number(String what, String typed) throws UsageException {
        return Arguments.number(what, typed, 0, Long.MAX_VALUE);
    }

    private static Op step(String name, List<String> rest) throws UsageException {
        return switch (name) {
            case "get" -> {
                require(rest.size() == 1 && !isRange(rest.get(0)), "get KEY; for a range, scan");
                yield new Op.Get(Text.bytes(rest.get(0)));
            }
            case "scan" -> {
                boolean limited = rest.size() > 1 && rest.get(rest.size() - 2).equals("limit");
                List<String> prefix = limited ? rest.subList(0, rest.size() - 2) : rest;
                require(prefix.size() <= 1, "scan [PREFIX] [limit N]");
                int limit =
                        limited ? (int) Arguments.number("limit", rest.get(rest.size() - 1), 1, Integer.MAX_VALUE) : 0;
                yield new Op.Scan(prefix(prefix), false, limit, false);
            }
            case "count" -> {
                require(rest.size() <= 1, "count [PREFIX]");
                yield new Op.Scan(prefix(rest), false, 0, true);
            }
            case "put" -> {
                boolean leased = rest.size() == 3 && rest.get(1).equals("lease");
                int equals = rest.isEmpty() ? -1 : rest.get(0).indexOf('=');
                require(equals >= 0 && (rest.size() == 1 || leased), "put KEY=VALUE [lease ID]");
                yield new Op.Put(
                        Text.bytes(rest.get(0).substring(0, equals)),
                        Text.bytes(rest.get(0).substring(equals + 1)),
                        leased ? Arguments.number("lease", rest.get(2), 1, Long.MAX_VALUE) : 0);
            }
            case "del" -> {
                require(rest.size() == 1, "del TARGET");
                yield new Op.Delete(target(rest.get(0)), false);
            }
            case "delprefix" -> {
                require(rest.size() == 1, "delprefix PREFIX");
                yield new Op.Delete(Range.prefix(Text.bytes(rest.get(0))), false);
            }
            case "incr" -> {
                require(rest.size() == 1 || rest.size() == 2, "incr KEY [BY]");
                long by = rest.size() == 1 ? 1 : Arguments.number("incr", rest.get(1), Long.MIN_VALUE, Long.MAX_VALUE);
                yield new Op.Increment(Text.bytes(rest.get(0)), by);
            }
            default ->
                throw new UsageException("there is no step " + Text.show(name)
                        + "; write if, then, else, get, scan, count, put, del, delprefix or incr");
        };
    }

    private static String withoutByteOrderMark(String script) {
        return script.startsWith("\u00ef\u00bb\u00bf") ? script.substring(3) : script;
    }

    private static void require(boolean holds, String form) throws UsageException {
        if (!holds) {
            throw new UsageException("write " + form + "; a space within a key or value as \\x20");
        }
    }

    private static boolean isRange(String word) {
        return word.startsWith("prefix:") || word.startsWith("range:");
    }

    /** The keys that a word means: one, unless it says otherwise. */
    private static Range target(String word) throws UsageException {
        return isRange(word) ? range(word) : Range.key(Text.bytes(word));
    }

    /** The keys that the word behind a scan means: those that begin with it, unless it says otherwise. */
    private static Range prefix(List<String> word) throws UsageException {
        if (word.isEmpty()) {
            return Range.all();
        }
        return isRange(word.get(0)) ? range(word.get(0)) : Range.prefix(Text.bytes(word.get(0)));
    }

    private static Range range(String word) throws UsageException {
        String what = word.substring(word.indexOf(':') + 1);
        if (word.startsWith("prefix:")) {
            return Range.prefix(Text.bytes(what));
        }
        int dots = what.indexOf("..");
        if (dots < 0) {
            throw new UsageException("write a range as range:FROM..TO; either end may be left out");
        }
        Bytes to = Text.bytes(what.substring(dots + 2));
        return new Range(Text.bytes(what.substring(0, dots)), to.length() == 0 ? null : to);
    }
}
