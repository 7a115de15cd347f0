package homekv.bench;

import java.io.PrintStream;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.StringJoiner;

/**
 * What has been measured: tables of numbers, printed as Markdown row by row as they come, and all of them as one JSON
 * document in the end. For one thread.
 *
 * <p>{@snippet :
 * report.part("wire", "Over the wire");
 * Report.Table table = report.table("get", List.of("server", "in flight"), List.of("calls/s", "p99"));
 * table.row(List.of("HomeKV", 64), Value.median(rates, "calls/s"), Value.of(p99Nanos, "ns"));
 * }
 *
 * <p>Each of a table's values becomes a JSON object: {@code part}, {@code table}, {@code name} (the column's),
 * {@code parameters} (the labels of the row, by the headers of their columns), {@code value}, {@code unit}, and
 * {@code rounds} where there were several.
 */
final class Report {
    /**
     * A number with its unit.
     *
     * @param text how it stands in a table; without the unit, which the column's header tells, but for durations
     * @param rounds what {@code value} is the median of; may be empty
     */
    record Value(double value, String unit, String text, double[] rounds) {
        /** One number. Of unit {@code ns} it is printed as a duration, with the unit that is handiest. */
        static Value of(double value, String unit) {
            return new Value(value, unit, text(value, unit), new double[0]);
        }

        /** The median of several rounds; the table also tells by how much half of them lie apart, in percent of it. */
        static Value median(double[] rounds, String unit) {
            double[] sorted = rounds.clone();
            Arrays.sort(sorted);
            double median = sorted[sorted.length / 2];
            String text = text(median, unit);
            if (sorted.length >= 4 && median != 0) {
                double halfApart = sorted[sorted.length * 3 / 4] - sorted[sorted.length / 4];
                text += " ±%.0f%%".formatted(100 * halfApart / 2 / Math.abs(median));
            }
            return new Value(median, unit, text, rounds.clone());
        }

        /** The same with another text. */
        Value as(String otherText) {
            return new Value(value, unit, otherText, rounds);
        }

        private static String duration(double nanos) {
            if (nanos < 10_000) {
                return String.format(
                        Locale.ROOT, nanos < 1_000 ? "%.0f ns" : "%.2f µs", nanos < 1_000 ? nanos : nanos / 1e3);
            }
            return nanos < 1_000_000
                    ? String.format(Locale.ROOT, "%.0f µs", nanos / 1e3)
                    : String.format(Locale.ROOT, "%.2f ms", nanos / 1e6);
        }

        private static String text(double value, String unit) {
            if (unit.equals("ns")) {
                return duration(value);
            }
            double magnitude = Math.abs(value);
            int digits = magnitude >= 100 || value == Math.rint(value) ? 0 : magnitude >= 10 ? 1 : 2;
            return String.format(Locale.ROOT, "%,." + digits + "f", value);
        }
    }

    private record Number(String part, String table, String name, Map<String, String> parameters, Value value) {}

    private final PrintStream out;
    private final List<Number> numbers = new ArrayList<>();
    private String part = "";

    Report(PrintStream out) {
        this.out = out;
    }

    /** Begins a part: its name for the JSON document, its title for people. */
    void part(String name, String title) {
        part = name;
        out.printf("%n## %s%n", title);
    }

    /** A paragraph of plain text. */
    void text(String paragraph) {
        out.printf("%n%s%n", paragraph);
    }

    /**
     * Begins a table.
     *
     * @param labels the headers of the first columns, which say of what a row is
     * @param columns the headers of those with numbers
     */
    Table table(String name, List<String> labels, List<String> columns) {
        return new Table(name, labels, columns);
    }

    /** A table that is being printed; one at a time. */
    final class Table {
        private final String name;
        private final List<String> labels;
        private final List<String> columns;

        private Table(String name, List<String> labels, List<String> columns) {
            this.name = name;
            this.labels = labels;
            this.columns = columns;
            out.println();
            print(labels, columns);
            print(
                    labels.stream().map(l -> "---").toList(),
                    columns.stream().map(c -> "---:").toList());
        }

        /** Adds a row: as many labels as there are headers for them, and no more values than columns; null has none. */
        void row(List<?> rowLabels, Value... values) {
            if (rowLabels.size() != labels.size() || values.length > columns.size()) {
                throw new IllegalArgumentException(rowLabels + " does not fit table " + name);
            }
            List<String> texts = rowLabels.stream().map(String::valueOf).toList();
            Map<String, String> parameters = new LinkedHashMap<>();
            for (int i = 0; i < texts.size(); i++) {
                parameters.put(labels.get(i), texts.get(i));
            }
            List<String> cells = new ArrayList<>();
            for (int i = 0; i < columns.size(); i++) {
                Value value = i < values.length ? values[i] : null;
                cells.add(value == null ? "" : value.text());
                if (value != null) {
                    numbers.add(new Number(part, name, columns.get(i), parameters, value));
                }
            }
            print(texts, cells);
        }

        private void print(List<String> first, List<String> rest) {
            StringJoiner row = new StringJoiner(" | ", "| ", " |");
            first.forEach(row::add);
            rest.forEach(row::add);
            out.println(row);
        }
    }

    /** All numbers so far as JSON, after what is known of where they come from: strings, numbers, lists of strings. */
    String toJson(Map<String, ?> about) {
        StringJoiner document = new StringJoiner(",\n", "{\n", "\n}\n");
        about.forEach((key, value) -> document.add(quote(key) + ": " + json(value)));
        StringJoiner all = new StringJoiner(",\n  ", "\"numbers\": [\n  ", "\n]").setEmptyValue("\"numbers\": []");
        for (Number number : numbers) {
            StringJoiner object = new StringJoiner(", ", "{", "}");
            object.add("\"part\": " + quote(number.part));
            object.add("\"table\": " + quote(number.table));
            object.add("\"name\": " + quote(number.name));
            object.add("\"parameters\": " + json(number.parameters));
            object.add("\"value\": " + json(number.value.value));
            object.add("\"unit\": " + quote(number.value.unit));
            if (number.value.rounds.length > 0) {
                object.add("\"rounds\": "
                        + json(Arrays.stream(number.value.rounds).boxed().toList()));
            }
            all.add(object.toString());
        }
        return document.add(all.toString()).toString();
    }

    private static String json(Object value) {
        return switch (value) {
            case Double number -> Double.isFinite(number) ? number.toString() : "null"; // JSON knows no others.
            case java.lang.Number number -> number.toString();
            case Boolean truth -> truth.toString();
            case List<?> list -> {
                StringJoiner items = new StringJoiner(", ", "[", "]");
                list.forEach(item -> items.add(json(item)));
                yield items.toString();
            }
            case Map<?, ?> map -> {
                StringJoiner items = new StringJoiner(", ", "{", "}");
                map.forEach((key, item) -> items.add(quote(key.toString()) + ": " + json(item)));
                yield items.toString();
            }
            default -> quote(value.toString());
        };
    }

    private static String quote(String text) {
        StringBuilder quoted = new StringBuilder("\"");
        for (int i = 0; i < text.length(); i++) {
            char c = text.charAt(i);
            if (c == '"' || c == '\\') {
                quoted.append('\\').append(c);
            } else if (c < ' ' || Character.isSurrogate(c)) {
                quoted.append(String.format(Locale.ROOT, "\\u%04x", (int) c));
            } else {
                quoted.append(c);
            }
        }
        return quoted.append('"').toString();
    }
}
