package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Limit;
import homekv.storage.Limits;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentLinkedQueue;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

/** What hkvctl prints and how it ends, against a server in this process and against servers that misbehave. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HkvctlTest {
    private static final int REFUSED = 1;
    private static final int USAGE = 2;
    private static final int NOT_EXPECTED = 4;
    private static final int UNREACHABLE = 5;

    private static final Bytes K = Bytes.utf8("k");

    // ---- Results ----

    @Test
    void theTranscriptGivesItsDocumentedOutput() throws IOException {
        try (Harness kv = new Harness()) {
            String[][] steps = {
                {"--cmd set --kvs dummy_key=🦫", "OK revision=1"},
                {"--cmd set --kvs trail=big_cedder people=5 start_time=12:00", "OK revision=2"},
                {"--cmd get --keys dummy_key", "dummy_key=🦫"},
                {"--cmd get --keys trail people", "trail=big_cedder\npeople=5"},
                {"--cmd get --keys end_time", "end_time (not found)"},
                {"--cmd del --keys dummy_key", "OK deleted=1 revision=3"},
                {"--cmd del --keys people start_time", "OK deleted=2 revision=4"},
                {"--cmd del --keys end_time", "OK deleted=0 revision=4"},
            };
            for (String[] step : steps) {
                kv.hkvctl(("-h " + step[0]).split(" ")).printed(step[1] + "\n");
            }
            Harness.Run metrics = kv.hkvctl("-h", "--cmd", "metrics");
            assertEquals("", metrics.err());
            assertEquals(0, metrics.exitCode());
            assertTrue(
                    metrics.out().startsWith("keys_count: 1\nvalues_size_in_bytes: 10\ncmds_count: 8\n"),
                    metrics.out());
        }
    }

    /** Names are part of what scripts rely on. */
    @Test
    void metricsAreANameAndANumberALineInTheOrderOfTheProtocol() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "ab=1234", "c=").printed("OK revision=1\n");
            kv.hkvctl("get", "ab").printed("ab=1234\n");
            kv.hkvctl("get", "none").printed("none (not found)\n");
            kv.hkvctl("del", "c", "none").printed("OK deleted=1 revision=2\n");
            Map<String, Long> metrics = new LinkedHashMap<>();
            for (String line : kv.hkvctl("metrics").out().split("\n")) {
                assertTrue(line.matches("[a-z0-9_]+: [0-9]+"), line);
                assertNull(metrics.put(line.split(": ")[0], Long.parseLong(line.split(": ")[1])));
            }
            assertEquals(
                    List.of(
                            "keys_count",
                            "values_size_in_bytes",
                            "cmds_count",
                            "keys_count_64",
                            "revision",
                            "keys_size_in_bytes",
                            "versions_count",
                            "store_size_in_bytes",
                            "store_limit_in_bytes",
                            "heap_used_in_bytes",
                            "heap_limit_in_bytes",
                            "uptime_millis",
                            "get_cmds_count",
                            "set_cmds_count",
                            "del_cmds_count",
                            "txn_cmds_count",
                            "compact_revision",
                            "leases_count",
                            "watches_count",
                            "process_cpu_micros"),
                    List.copyOf(metrics.keySet()));
            assertEquals(
                    List.of(1L, 4L, 4L, 1L, 2L, 2L, 2L, 1L, 1L),
                    List.of(
                            metrics.get("keys_count"),
                            metrics.get("values_size_in_bytes"),
                            metrics.get("cmds_count"),
                            metrics.get("keys_count_64"),
                            metrics.get("revision"),
                            metrics.get("keys_size_in_bytes"),
                            metrics.get("get_cmds_count"),
                            metrics.get("set_cmds_count"),
                            metrics.get("del_cmds_count")));
        }
    }

    @Test
    void getAnswersEveryKeyInTheOrderAskedRepeatedOnesToo() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "b=2", "a=1").printed("OK revision=1\n");
            kv.hkvctl("get", "b", "none", "a", "b", "none")
                    .printed("b=2\nnone (not found)\na=1\nb=2\nnone (not found)\n");
        }
    }

    @Test
    void theLastOfAKeysPairsWinsAndAKeyIsDeletedOnce() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=1", "k=2").printed("OK revision=1\n");
            kv.hkvctl("get", "k").printed("k=2\n");
            kv.hkvctl("set", "k=2").printed("OK revision=2\n");
            kv.hkvctl("del", "k", "k").printed("OK deleted=1 revision=3\n");
        }
    }

    @Test
    void anEmptyStoreIsAtRevisionZero() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("del", "k").printed("OK deleted=0 revision=0\n");
        }
    }

    @Test
    void aPairIsSplitAtItsFirstEqualsSignAndAnEmptyValueIsAValue() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=b=c", "d=", "e==", "f\\x3dg=h").printed("OK revision=1\n");
            kv.hkvctl("get", "a", "d", "e", "f=g", "f\\x3dg").printed("a=b=c\nd=\ne==\nf\\x3dg=h\nf\\x3dg=h\n");
            assertEquals(Bytes.utf8("h"), kv.value(Bytes.utf8("f=g")));
            assertEquals(Bytes.utf8(""), kv.value(Bytes.utf8("d")));
        }
    }

    @Test
    void controlCharactersAndBytesThatAreNotUtf8AreShownAndGivenAsEscapes() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=two\nlines\t\u001b[31m", "b=\\x00\\xff\\xC3\\xBC", "a\nb=\\")
                    .printed("OK revision=1\n");
            kv.hkvctl("get", "k", "b", "a\\x0ab", "x\ny")
                    .printed("k=two\\x0alines\\x09\\x1b[31m\nb=\\x00\\xffü\na\\x0ab=\\\nx\\x0ay (not found)\n");
            assertEquals(Bytes.copyOf(new byte[] {0, -1, (byte) 0xc3, (byte) 0xbc}), kv.value(Bytes.utf8("b")));
        }
    }

    /** A line that get prints is a pair that set takes: this is how a person copies keys between servers. */
    @Test
    void whatGetPrintsGivenToSetIsTheSameKeyAndValue() throws Exception {
        try (Harness from = new Harness();
                Harness to = new Harness()) {
            Harness.seeded(Harness.count(20, 2_000), random -> {
                Map<Bytes, Bytes> records = new LinkedHashMap<>();
                for (int i = 0; i < 200; i++) {
                    byte[] key = Harness.randomContent(random, 20);
                    if (key.length > 0) {
                        records.put(Bytes.unsafeWrap(key), Bytes.unsafeWrap(Harness.randomContent(random, 60)));
                    }
                }
                List<String> set = new ArrayList<>(List.of("set", "--"));
                List<String> get = new ArrayList<>(List.of("get", "--"));
                records.forEach((key, value) -> {
                    set.add(Text.showKey(key) + "=" + Text.showValue(value));
                    get.add(Text.showKey(key));
                });
                assertEquals(0, from.hkvctl(set).exitCode());
                records.forEach((key, value) -> assertEquals(value, from.value(key)));

                Harness.Run found = from.hkvctl(get);
                assertEquals("", found.err());
                String[] lines = new String(found.outBytes(), StandardCharsets.ISO_8859_1).split("\n", -1);
                assertEquals(records.size() + 1, lines.length, "a line for each key, and an end of the last one");
                List<String> copy = new ArrayList<>(List.of("set", "--"));
                copy.addAll(Arrays.asList(lines).subList(0, records.size()));
                assertEquals(0, to.hkvctl(copy).exitCode());
                records.forEach((key, value) -> assertEquals(value, to.value(key)));
            });
        }
    }

    // ---- Forms of the command line ----

    @ParameterizedTest
    @ValueSource(
            strings = {
                "get k1 k2",
                "--cmd get --keys k1 k2",
                "--cmd=get --keys=k1 k2",
                "--keys k1 k2 --cmd get",
                "--cmd get k1 k2",
                "get --keys k1 k2",
                "get k1 --keys k2",
                "get --keys k1 --keys k2",
                "get k1 -h k2 --timeout 5s",
                "get k1 --timeout=5000ms k2 -h",
                "--timeout 1m -h --cmd get --keys k1 k2",
                "--cmd get -- k1 k2",
                "get -- k1 k2",
                "-- get k1 k2",
                "--host localhost get k1 k2",
                "--host=127.0.0.1 get k1 k2",
            })
    void aGetIsTheSameInEveryFormAndFlagsMayStandAnywhere(String line) throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k1=v1", "k2=v2");
            // Where k2 would be taken for the host that -h may have, the host is written.
            kv.hkvctl(line.replace("-h k2", "-h 127.0.0.1 k2").split(" ")).printed("k1=v1\nk2=v2\n");
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "set a=1 b=2",
                "--cmd set --kvs a=1 b=2",
                "--kvs a=1 b=2 --cmd set",
                "--kvs=a=1 b=2 --cmd=set",
                "set a=1 --kvs b=2",
                "set --kvs a=1 --kvs b=2",
                "set a=1 --timeout 5s b=2",
                "set -- a=1 b=2"
            })
    void aSetIsTheSameInEveryForm(String line) throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl(line.split(" ")).printed("OK revision=1\n");
            kv.hkvctl("get", "a", "b").printed("a=1\nb=2\n");
        }
    }

    @Test
    void keysThatBeginWithADashAreGivenBehindTwoDashes() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "--", "-k=1", "--keys=2", "--=3").printed("OK revision=1\n");
            kv.hkvctl("get", "--", "-k", "--keys", "--").printed("-k=1\n--keys=2\n--=3\n");
            kv.hkvctl("get", "\\x2dk", "-").printed("-k=1\n- (not found)\n");
            kv.hkvctl("--cmd", "get", "--keys", "--", "-k").printed("-k=1\n");
            kv.hkvctl("--cmd", "set", "--kvs", "--", "-k=4").printed("OK revision=2\n");
        }
    }

    @Test
    void helpAndVersionNeedNoServerAndNothingElse() {
        for (String line : List.of("--help", "get --help", "--help -p 1", "--help --version")) {
            Harness.Run help = Harness.run(List.of(line.split(" ")));
            assertEquals(0, help.exitCode());
            assertEquals("", help.err());
            assertTrue(help.out().startsWith("hkvctl: "), help.out());
            assertTrue(help.out().endsWith("\n"), help.out());
        }
        Harness.run(List.of("--version")).printed("hkvctl " + Program.version() + "\n");
        assertTrue(Program.version().matches("[0-9]+\\.[0-9]+\\.[0-9]+.*"), Program.version());
    }

    // ---- Exit code 2: the command line ----

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            emptyValue = "",
            value = {
                "''                          | no command",
                "-p 20001                    | no command",
                "bogus                       | unknown command bogus",
                "--cmd bogus k               | unknown command bogus",
                "GET k                       | unknown command GET",
                "get                         | at least one key",
                "del                         | at least one key",
                "--cmd get                   | at least one key",
                "--cmd get --keys            | --keys needs",
                "set                         | at least one pair",
                "--cmd set --kvs             | --kvs needs",
                "set a=1 b                   | b is not a pair",
                "set a                       | KEY=VALUE",
                "get --kvs a=1               | --keys, not --kvs",
                "del --kvs a=1               | --keys, not --kvs",
                "set --keys a                | --kvs, not --keys",
                "snapshot f                  | write snapshot with nothing behind it",
                "backup                      | write backup FILE",
                "backup f --rev 1            | backup takes no --rev",
                "export                      | write export [--prefix P] [--rev R] FILE",
                "export f g                  | write export [--prefix P] [--rev R] FILE",
                "export f --from a           | export takes no --from",
                "import                      | write import [--skip-lines N] FILE",
                "import f --prefix a         | import takes no --prefix",
                "import f --skip-lines x     | --skip-lines takes a whole number",
                "metrics k                   | metrics takes nothing",
                "metrics --keys k            | metrics takes nothing",
                "--cmd                       | --cmd needs a value",
                "--cmd get --cmd set k       | --cmd is given twice",
                "get k --bogus               | unknown flag --bogus",
                "get k -x                    | unknown flag -x",
                "get k -p                    | --port needs a value",
                "get k -p 0                  | 1 to 65535",
                "get k -p 65536              | 1 to 65535",
                "get k -p 4294987297         | 1 to 65535",
                "get k --port=-1             | 1 to 65535",
                "get k -p http               | 1 to 65535",
                "get k -p 20001 -p 20001     | --port is given twice",
                "get k -h -h                 | --host is given twice",
                "get k --timeout             | --timeout needs a value",
                "get k --timeout 0           | --timeout",
                "get k --timeout 0ms         | --timeout",
                "get k --timeout=-1s         | --timeout",
                "get k --timeout 1h          | --timeout",
                "get k --timeout 1.5s        | --timeout",
                "get k --timeout s           | --timeout",
                "get k --timeout 9999999999s | --timeout",
                "get k --timeout 1S          | --timeout",
                "get k --ttl 5s              | get takes no --ttl",
                "set a=1 --rev 5             | set takes no --rev",
                "metrics --limit 5           | metrics takes no --limit",
                "set a=1 --ttl 5s --lease 7  | --ttl or --lease, not both",
                "set a=1 --ttl 0             | --ttl takes a time",
                "set a=1 --ttl 1h            | --ttl takes a time",
                "set a=1 --lease 0           | --lease takes a whole number",
                "get k --rev=-1              | --rev takes a whole number",
                "get k --rev -1              | --rev takes a whole number",
                "get k --rev new             | --rev takes a whole number",
                "scan a                      | write scan [--prefix P|--from A --to B]",
                "scan --prefix a --to b      | --prefix, or --from and --to",
                "scan --limit 0              | --limit takes a whole number",
                "scan --count-only --limit 1 | leave --limit out",
                "scan --count-only --reverse | leave --reverse out",
                "scan --prefix               | --prefix needs a value",
                "scan --keys k               | scan takes no --keys",
                "cas                         | write cas KEY --expect VALUE",
                "cas k l --absent --set v    | write cas KEY",
                "cas k --set v               | write cas KEY",
                "cas k --absent              | write cas KEY",
                "cas k --absent --expect a --set v | write cas KEY",
                "incr                        | write incr KEY [BY]",
                "incr k 1 2                  | write incr KEY [BY]",
                "incr k x                    | incr takes a whole number",
                "incr k 9223372036854775808  | incr takes a whole number",
                "getset k                    | write getset KEY VALUE",
                "getset k v w                | write getset KEY VALUE",
                "getdel                      | write getdel KEY",
                "getdel k l                  | write getdel KEY",
                "txn a b                     | write txn [FILE|-]",
                "txn no-such-file            | cannot read the script from the file no-such-file",
                "txn                         | the script has no step",
                "history                     | write history KEY",
                "history k l                 | write history KEY",
                "diff                        | write diff --rev A..B",
                "diff --rev 5                | write diff --rev A..B",
                "diff --rev 5..              | --rev takes a whole number from 5",
                "diff --rev 5..4             | --rev takes a whole number from 5",
                "diff --rev 1..2..3          | write diff --rev A..B",
                "diff k --rev 1..2           | write diff --rev A..B",
                "compact                     | write compact REVISION",
                "compact now                 | compact takes a whole number",
                "compact -1                  | compact takes a whole number",
                "watch a b                   | write watch [KEY|--prefix P]",
                "watch a --prefix b          | KEY or --prefix, not both",
                "watch --from-rev 0          | --from-rev takes a whole number from 1",
                "lease                       | write lease grant TIME",
                "lease grant                 | write lease grant TIME",
                "lease list 5                | write lease grant TIME",
                "lease grant 0s              | lease grant takes a time",
                "lease revoke x              | lease revoke takes a whole number",
                "lease keep-alive 0          | lease keep-alive takes a whole number",
                "lease end 5                 | unknown lease command end",
                "bench                       | write bench get, bench set or bench mixed",
                "bench scan                  | write bench get, bench set or bench mixed",
                "bench get k                 | write bench get, bench set or bench mixed",
                "bench get --rev 1           | bench takes no --rev",
                "get k --rate 5              | get takes no --rate",
                "bench get --in-flight 0     | --in-flight takes a whole number from 1 to 10000",
                "bench get --in-flight 10001 | --in-flight takes a whole number from 1 to 10000",
                "bench get --connections 65  | --connections takes a whole number from 1 to 64",
                "bench get --key-count 0     | --key-count takes a whole number",
                "bench get --value-bytes 16777217 | --value-bytes takes a whole number",
                "bench set --value-bytes 9000000 | 268435456 at the most",
                "bench get --rate 0          | --rate takes a whole number from 1",
                "bench get --rate 1000001    | --rate takes a whole number from 1",
                "bench get --for 0s          | --for takes a time",
                "bench get --for 2000m       | --for takes a day at the most",
                "bench get --calls 0         | --calls takes a whole number from 1",
                "bench get --zipf 1          | --zipf takes a number between 0 and 1",
                "bench get --zipf 0.0        | --zipf takes a number between 0 and 1",
                "bench get --zipf 1e-1       | --zipf takes a number between 0 and 1",
                "bench get --read-percent 50 | only bench mixed takes --read-percent",
                "bench mixed --read-percent 101 | --read-percent takes a whole number from 0 to 100",
                "bench get --gather green    | --gather takes virtual or platform",
                "bench get --gather --rate 5 | --gather or --rate, not both",
                "bench get --seed x          | --seed takes a whole number",
                "bench get --json=yes        | --json takes no value",
                "--help=yes                  | --help takes no value",
                "--version --bogus           | unknown flag --bogus",
            })
    void aWrongCommandLineIsOneLineThatSaysWhatToWrite(String line, String words) {
        Harness.run(line.isEmpty() ? List.of() : List.of(line.split(" "))).failed(USAGE, words);
    }

    @Test
    void pairsAndKeysWithoutACommandAreNotTakenForOne() {
        Harness.run(List.of("--keys", "k")).failed(USAGE, "no command");
        Harness.run(List.of("--kvs", "k=v")).failed(USAGE, "no command");
    }

    /** As it comes out of a script with an empty variable: it would never print anything. */
    @Test
    void aWatchOfTheEmptyKeyIsRefused() {
        Harness.run(List.of("watch", "")).failed(USAGE, "at least one byte");
    }

    @Test
    void aWrongPairSetsNoneOfTheOthers() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=1", "b").failed(USAGE);
            assertEquals(0, kv.store.counters().commands());
            assertNull(kv.value(K));
        }
    }

    @Test
    void whatIsWrongIsShownWithoutItsControlCharacters() {
        for (String wrong : List.of("a\u001b[2J", "two\nlines", "\\xff", "ü", "\u0085", "")) {
            String typed = Harness.typed(wrong).replace("\\xff", "\u00ff");
            Harness.run(List.of(typed, "k")).failed(USAGE, "unknown command");
            Harness.run(List.of("set", typed)).failed(USAGE, "is not a pair");
            Harness.run(List.of("get", "k", "-p", typed)).failed(USAGE, "--port");
            Harness.run(List.of("get", "k", "--timeout", typed)).failed(USAGE, "--timeout");
            Harness.run(List.of("get", "k", "--x" + typed)).failed(USAGE, "unknown flag");
        }
        Harness.run(List.of(Harness.typed("ü"))).failed(USAGE, "unknown command ü");
    }

    @Test
    void theLongestTimeoutIsATimeout() throws IOException {
        try (Harness kv = new Harness()) {
            for (String time : List.of("999999999m", "999999999s", "999999999ms", "999999999")) {
                kv.hkvctl("get", "k", "--timeout", time).printed("k (not found)\n");
            }
        }
    }

    /** Whatever is typed, a run ends with a documented code: 0 with a quiet standard error, else one line there. */
    @Test
    void anyCommandLineEndsInADocumentedWay() throws Exception {
        List<String> pieces = List.of(
                "get",
                "set",
                "del",
                "metrics",
                "scan",
                "cas",
                "incr",
                "getset",
                "getdel",
                "txn",
                "history",
                "diff",
                "compact",
                "lease",
                "snapshot",
                "import",
                "--cmd",
                "--keys",
                "--kvs",
                "--cmd=get",
                "--cmd=set",
                "--rev",
                "--rev=0..1",
                "--prefix",
                "--limit=2",
                "--count-only",
                "--reverse",
                "--absent",
                "--expect=1",
                "--set=2",
                "--ttl=1m",
                "grant",
                "list",
                "1",
                "-1",
                "--keys=k",
                "--kvs=k=v",
                "--timeout",
                "5s",
                "1m",
                "--timeout=1m",
                "--",
                "k",
                "k2",
                "k=v",
                "k=",
                "=v",
                "=",
                "-",
                "--version",
                "--x=\n",
                "\u001b",
                "\u00ff=\u00fe",
                "--host=127.0.0.1",
                "a\\x3db",
                "--timeout=999999999m");
        try (Harness kv = new Harness()) {
            Harness.seeded(Harness.count(4, 400), random -> {
                for (int i = 0; i < 100; i++) {
                    List<String> args = new ArrayList<>();
                    if (random.nextInt(3) > 0) {
                        args.add(pieces.get(random.nextInt(16)));
                    }
                    while (random.nextInt(5) > 0) {
                        args.add(
                                random.nextInt(6) > 0
                                        ? pieces.get(random.nextInt(pieces.size()))
                                        : new String(Harness.randomContent(random, 8), StandardCharsets.ISO_8859_1));
                    }
                    Harness.Run run;
                    try {
                        run = kv.hkvctl(args);
                    } catch (RuntimeException e) {
                        throw new AssertionError(args + " throws " + e, e);
                    }
                    if (run.exitCode() == 0) {
                        boolean imported = run.err().matches("imported 0 pairs \\(0 bytes\\) in [0-9.]+ s\n");
                        assertTrue(run.err().isEmpty() || imported, args::toString);
                        assertTrue(run.out().isEmpty() || run.out().endsWith("\n"), args::toString);
                    } else {
                        assertTrue(
                                run.exitCode() == REFUSED || run.exitCode() == USAGE || run.exitCode() == NOT_EXPECTED,
                                args::toString);
                        run.failed(run.exitCode());
                    }
                }
            });
        }
    }

    // ---- Exit code 1: the server refused ----

    @Test
    void everyLimitOfTheServerIsARefusalThatNamesItsFlag() throws IOException {
        Limits limits = Limits.forHeap(1L << 40)
                .with(Limit.KEY_BYTES, 10)
                .with(Limit.VALUE_BYTES, 20)
                .with(Limit.REQUEST_KEYS, 3)
                .with(Limit.REQUEST_BYTES, 60)
                .with(Limit.RESPONSE_BYTES, 50);
        try (Harness kv = new Harness(limits)) {
            String value = "v".repeat(20);
            kv.hkvctl("set", "k".repeat(10) + "=" + value).printed("OK revision=1\n");
            kv.hkvctl("set", "k".repeat(11) + "=1").failed(REFUSED, "11", "10", "--max-key-bytes");
            kv.hkvctl("get", "k".repeat(11)).failed(REFUSED, "11", "10", "--max-key-bytes");
            kv.hkvctl("del", "k".repeat(11)).failed(REFUSED, "11", "10", "--max-key-bytes");
            kv.hkvctl("set", "k=" + value + "v").failed(REFUSED, "21", "20", "--max-value-bytes");
            kv.hkvctl("get", "a", "b", "c", "d").failed(REFUSED, "4", "3", "--max-request-keys");
            kv.hkvctl("set", "a=" + value, "b=" + value, "c=" + value).failed(REFUSED, "60", "--max-request-bytes");
            kv.hkvctl("set", "a=" + value).printed("OK revision=2\n");
            kv.hkvctl("get", "a", "a").failed(REFUSED, "50", "--max-response-bytes");
            kv.hkvctl("get", "a").printed("a=" + value + "\n");
        }
    }

    @Test
    void aStoreWithoutRoomIsARefusalThatNamesItsFlagAndReadsGoOn() throws IOException {
        try (Harness kv = new Harness(Limits.forHeap(1L << 40).with(Limit.MEMORY_BYTES, 0))) {
            kv.hkvctl("set", "k=1").failed(REFUSED, "--max-memory-bytes");
            kv.hkvctl("get", "k").printed("k (not found)\n");
        }
    }

    @Test
    void theEmptyKeyIsRefused() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("get", "").failed(REFUSED, "empty");
            kv.hkvctl("del", "k", "").failed(REFUSED, "empty");
            kv.hkvctl("set", "k=1", "=v").failed(REFUSED, "empty");
            kv.hkvctl("get", "--keys=").failed(REFUSED, "empty");
            assertNull(kv.value(K));
        }
    }

    /** The other statuses that a server or something in front of it can answer with. */
    @ParameterizedTest
    @CsvSource({
        "2, UNKNOWN",
        "7, PERMISSION_DENIED",
        "10, ABORTED",
        "12, UNIMPLEMENTED",
        "13, INTERNAL",
        "16, UNAUTHENTICATED"
    })
    void anyOtherStatusIsARefusalThatNamesItAndTheServer(int status, String name) throws IOException {
        try (Http2.Server server = Http2.Server.of((method, request) -> Http2.Answer.status(status, "so it is"))) {
            ctl(server, "set", "k=v").failed(REFUSED, name, "so it is", "127.0.0.1:" + server.port());
        }
    }

    @ParameterizedTest
    @ValueSource(ints = {3, 8, 13, 14})
    void whatTheServerSaysIsOneCleanLineWhateverIsInIt(int status) throws IOException {
        String text = "a%0Ab%0D%1B[31m%C2%85 %F0%9F%A6%AB";
        try (Http2.Server server = Http2.Server.of((method, request) -> Http2.Answer.status(status, text))) {
            ctl(server, "get", "k").failed(status == 14 ? UNREACHABLE : REFUSED, "🦫");
        }
    }

    @Test
    void aStatusWithoutWordsIsStillALineThatSaysSomething() throws IOException {
        for (int status : new int[] {3, 8, 13, 14}) {
            try (Http2.Server server = Http2.Server.of((method, request) -> Http2.Answer.status(status, ""))) {
                ctl(server, "get", "k").failed(status == 14 ? UNREACHABLE : REFUSED);
            }
        }
    }

    @Test
    void aResultThatCannotBeWrittenIsAFailure() throws IOException {
        OutputStream full = new OutputStream() {
            @Override
            public void write(int b) throws IOException {
                throw new IOException("No space left on device");
            }
        };
        try (Harness kv = new Harness()) {
            String port = Integer.toString(kv.port());
            for (String line : List.of("set k=1", "get k", "del k", "metrics", "--help", "--version")) {
                List<String> args = new ArrayList<>(List.of("-p", port));
                args.addAll(List.of(line.split(" ")));
                Harness.run(args, full, new ByteArrayOutputStream())
                        .failed(REFUSED, "cannot write the result", "No space left on device");
            }
        }
    }

    // ---- Servers of the original kind ----

    @Test
    void againstAServerThatKnowsNoRevisionsAWriteIsAPlainOkAndMetricsAreTheOriginalThree() throws IOException {
        byte[] metrics = Http2.field(1, Http2.field(1, 3), Http2.field(2, 0), Http2.field(3, -1));
        byte[] found = Http2.field(1, Http2.field(1, "a"), Http2.field(2, "🦫"));
        byte[] empty = Http2.field(1, Http2.field(1, "b"), Http2.field(2, ""));
        byte[] absent = Http2.field(1, Http2.field(1, "c"));
        try (Http2.Server server = Http2.Server.of((method, request) -> switch (method) {
            case "Get" -> Http2.Answer.of(found, empty, absent);
            case "Set", "Del" -> Http2.Answer.of(Http2.field(1, 1));
            case "Metrics" -> Http2.Answer.of(metrics);
            default -> Http2.Answer.status(12, method);
        })) {
            ctl(server, "set", "k=v").printed("OK\n");
            ctl(server, "del", "k").printed("OK\n");
            ctl(server, "get", "a", "b", "c").printed("a=🦫\nb=\nc (not found)\n");
            ctl(server, "metrics")
                    .printed("keys_count: 3\nvalues_size_in_bytes: 0\ncmds_count: 18446744073709551615\n");
        }
    }

    /** What goes over the wire, byte for byte, as the wire contract numbers it. */
    @Test
    void requestsAreThoseOfTheWireContract() throws IOException {
        record Sent(String method, byte[] message) {}
        ConcurrentLinkedQueue<Sent> sent = new ConcurrentLinkedQueue<>();
        try (Http2.Server server = Http2.Server.of((method, request) -> {
            sent.add(new Sent(method, request));
            return Http2.Answer.status(13, "no");
        })) {
            ctl(server, "get", "a", "🦫", "a").failed(REFUSED);
            ctl(server, "set", "a=1", "b=", "\\xff=\\x00").failed(REFUSED);
            ctl(server, "del", "a").failed(REFUSED);
            ctl(server, "metrics").failed(REFUSED);
        }
        byte[] ff = {(byte) 0xff};
        Map<String, byte[]> expected = new LinkedHashMap<>();
        expected.put("Get", Http2.message(Http2.field(1, "a"), Http2.field(1, "🦫"), Http2.field(1, "a")));
        expected.put(
                "Set",
                Http2.message(
                        Http2.field(1, Http2.field(1, "a"), Http2.field(2, "1")),
                        Http2.field(1, Http2.field(1, "b"), Http2.field(2, "")),
                        Http2.field(1, Http2.field(1, ff), Http2.field(2, new byte[1]))));
        expected.put("Del", Http2.field(1, "a"));
        expected.put("Metrics", new byte[0]);
        assertEquals(
                List.copyOf(expected.keySet()), sent.stream().map(Sent::method).toList());
        sent.forEach(each -> assertArrayEquals(expected.get(each.method()), each.message(), each.method()));
    }

    @Test
    void anAnswerWithFewerOrMoreRecordsThanKeysIsAFailureOfTheServer() throws IOException {
        byte[] record = Http2.field(1, Http2.field(1, "a"), Http2.field(2, "1"));
        for (byte[][] records : new byte[][][] {{}, {record}, {record, record, record}}) {
            try (Http2.Server server = Http2.Server.of((method, request) -> Http2.Answer.of(records))) {
                ctl(server, "get", "a", "b").failed(REFUSED, "127.0.0.1:" + server.port());
            }
        }
    }

    @Test
    void anAnswerThatSaysItWasNotDoneIsNoOk() throws IOException {
        try (Http2.Server server = Http2.Server.of((method, request) -> Http2.Answer.of())) {
            ctl(server, "set", "k=v").failed(REFUSED);
            ctl(server, "del", "k").failed(REFUSED);
        }
    }

    @Test
    void anAnswerThatIsNoMessageIsAFailureOfTheServer() throws IOException {
        byte[] cutOff = {10, 100, 1};
        try (Http2.Server server = Http2.Server.of((method, request) -> Http2.Answer.of(cutOff))) {
            for (String line : List.of("get k", "set k=v", "del k", "metrics")) {
                ctl(server, line.split(" ")).failed(REFUSED);
            }
        }
    }

    // ---- Exit code 5: no server there ----

    @Test
    void aPortWhereNobodyListensIsUnreachable() throws IOException {
        int port;
        try (ServerSocket free = new ServerSocket(0, 1, InetAddress.getByName("127.0.0.1"))) {
            port = free.getLocalPort();
        }
        for (String line : List.of("get k", "set k=v", "del k", "metrics")) {
            List<String> args = new ArrayList<>(List.of(line.split(" ")));
            args.addAll(List.of("-p", Integer.toString(port)));
            Harness.run(args).failed(UNREACHABLE, "127.0.0.1:" + port, "is homekv running there?");
        }
    }

    @Test
    void aHostThatNobodyKnowsIsUnreachable() {
        Harness.run(List.of("get", "k", "-h", "no-such-host.invalid"))
                .failed(UNREACHABLE, "no-such-host.invalid:20001");
    }

    /** Words that are no host at all, as they come out of scripts with empty variables and pasted addresses. */
    @ParameterizedTest
    @ValueSource(
            strings = {
                "",
                " ",
                "a b",
                "127.0.0.1:20001",
                "http://127.0.0.1",
                "[::1",
                "::g",
                "a/b",
                "user@127.0.0.1",
                "?",
                "#",
                "%",
                "%zz",
                "a\nb",
                "a\u001b[2Jb",
                "bücher.invalid",
                "\\xff",
                "..",
                ".",
                "a_b",
                "256.256.256.256",
                "-"
            })
    void aHostThatIsNoneIsOneCleanLine(String host) {
        String typed = Harness.typed(host).replace("\\xff", "\u00ff");
        Harness.Run run = Harness.run(List.of("get", "k", "-h", typed, "-p", "1", "--timeout", "2s"));
        assertTrue(run.exitCode() == UNREACHABLE || run.exitCode() == USAGE, run.err());
        run.failed(run.exitCode());
    }

    @Test
    void aServerThatNeverAnswersTimesOutAndAWriteSaysThatItMayHaveHappened() throws IOException {
        try (Http2.Server silent = new Http2.Server(socket -> {})) {
            ctl(silent, "get", "k", "--timeout", "50ms").failed(UNREACHABLE, "127.0.0.1:" + silent.port(), "50 ms");
            ctl(silent, "metrics", "--timeout", "50ms").failed(UNREACHABLE, "50 ms");
            ctl(silent, "set", "k=v", "--timeout", "50ms").failed(UNREACHABLE, "50 ms", "may or may not");
            ctl(silent, "del", "k", "--timeout", "50ms").failed(UNREACHABLE, "50 ms", "may or may not");
        }
    }

    @Test
    void aReadThatTimesOutDoesNotSpeakOfWrites() throws IOException {
        try (Http2.Server silent = new Http2.Server(socket -> {})) {
            assertFalse(ctl(silent, "get", "k", "--timeout", "50ms").err().contains("write"));
        }
    }

    @Test
    void aServerThatHangsUpIsUnreachable() throws IOException {
        try (Http2.Server rude = new Http2.Server(Socket::close)) {
            ctl(rude, "get", "k").failed(UNREACHABLE, "127.0.0.1:" + rude.port());
        }
    }

    @Test
    void aServerThatHangsUpOnACallIsUnreachableAndAWriteSaysThatItMayHaveHappened() throws IOException {
        try (Http2.Server rude = Http2.Server.of((method, request) -> {
            throw new UncheckedIOException(new IOException("hangs up"));
        })) {
            ctl(rude, "get", "k").failed(UNREACHABLE, "127.0.0.1:" + rude.port());
            ctl(rude, "set", "k=v").failed(UNREACHABLE, "127.0.0.1:" + rude.port(), "may or may not");
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "HTTP/1.1 400 Bad Request\r\n\r\n",
                "SSH-2.0-OpenSSH_9.6\r\n",
                "\u0015\u0003\u0001\u0000\u0002\u0002\u0050"
            })
    void whatIsNoHomeKvServerIsOneCleanLineThatNamesIt(String greeting) throws IOException {
        try (Http2.Server other = new Http2.Server(socket -> {
            socket.getOutputStream().write(greeting.getBytes(StandardCharsets.ISO_8859_1));
            socket.shutdownOutput();
        })) {
            Harness.Run run = ctl(other, "get", "k");
            assertTrue(run.exitCode() == UNREACHABLE || run.exitCode() == REFUSED, run.err());
            run.failed(run.exitCode(), "127.0.0.1:" + other.port());
        }
    }

    private static Harness.Run ctl(Http2.Server server, String... args) {
        List<String> typed = new ArrayList<>(List.of("-p", Integer.toString(server.port())));
        typed.addAll(Arrays.stream(args).map(Harness::typed).toList());
        return Harness.run(typed);
    }
}
