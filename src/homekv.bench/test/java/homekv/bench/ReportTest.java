package homekv.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class ReportTest {
    private final ByteArrayOutputStream printed = new ByteArrayOutputStream();
    private final Report report = new Report(new PrintStream(printed, true, StandardCharsets.UTF_8));

    @Test
    void tableIsPrintedAsMarkdownAndEachOfItsNumbersIsInTheJsonWithParametersAndUnit() {
        report.part("wire", "Over the wire");
        Report.Table table = report.table("get", List.of("server", "in flight"), List.of("calls/s", "p99", "none"));
        table.row(
                List.of("HomeKV", 64),
                Report.Value.median(new double[] {1_300, 1_200, 1_100, 1_250, 1_150}, "calls/s"),
                Report.Value.of(12_345, "ns"));

        assertEquals("""

                ## Over the wire

                | server | in flight | calls/s | p99 | none |
                | --- | --- | ---: | ---: | ---: |
                | HomeKV | 64 | 1,200 ±4% | 12 µs |  |
                """, printed.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n"));
        assertEquals("""
                {
                "processors": 2,
                "flags": ["-a", "-b"],
                "numbers": [
                  {"part": "wire", "table": "get", "name": "calls/s", "parameters": {"server": "HomeKV", "in flight": "64"}, \
                "value": 1200.0, "unit": "calls/s", "rounds": [1300.0, 1200.0, 1100.0, 1250.0, 1150.0]},
                  {"part": "wire", "table": "get", "name": "p99", "parameters": {"server": "HomeKV", "in flight": "64"}, \
                "value": 12345.0, "unit": "ns"}
                ]
                }
                """, report.toJson(about("processors", 2, "flags", List.of("-a", "-b"))));
    }

    @Test
    void whatJsonCannotHaveIsEscapedAndNumbersThatItDoesNotKnowAreNull() {
        report.table("t", List.of("l"), List.of("c"))
                .row(List.of("\"quoted\" \\ \n\t\u0001 \ud800 é"), Report.Value.of(Double.NaN, "%"));

        assertEquals("""
                {
                "numbers": [
                  {"part": "", "table": "t", "name": "c", "parameters": {"l": \
                "\\"quoted\\" \\\\ \\u000a\\u0009\\u0001 \\ud800 é"}, "value": null, "unit": "%"}
                ]
                }
                """, report.toJson(Map.of()));
    }

    @Test
    void reportWithoutNumbersIsJsonToo() {
        assertEquals("{\n\"numbers\": []\n}\n", report.toJson(Map.of()));
    }

    @Test
    void rowThatDoesNotFitItsTableIsRefused() {
        Report.Table table = report.table("t", List.of("l"), List.of("c"));

        assertThrows(IllegalArgumentException.class, () -> table.row(List.of("a", "b")));
        assertThrows(
                IllegalArgumentException.class,
                () -> table.row(List.of("a"), Report.Value.of(1, ""), Report.Value.of(2, "")));
    }

    private static Map<String, Object> about(Object... pairs) {
        Map<String, Object> about = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            about.put((String) pairs[i], pairs[i + 1]);
        }
        return about;
    }
}
