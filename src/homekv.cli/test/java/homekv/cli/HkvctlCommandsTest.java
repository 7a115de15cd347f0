package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Command;
import homekv.storage.Limit;
import homekv.storage.Limits;
import homekv.storage.MemoryCommandLog;
import homekv.storage.Write;
import java.io.BufferedReader;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Scans, transactions, the past, watches and leases as hkvctl prints them, against a server in this process. */
@Timeout(value = 120, threadMode = Timeout.ThreadMode.SEPARATE_THREAD)
class HkvctlCommandsTest {
    private static final int REFUSED = 1;
    private static final int USAGE = 2;
    private static final int NOT_EXPECTED = 4;

    private static final Limits ROOMY = Limits.forHeap(1L << 40);

    /** The run printed this, and ended with this code and nothing on standard error. */
    private static void printed(int exitCode, String expected, Harness.Run run) {
        assertEquals("", run.err());
        assertEquals(expected, run.out());
        assertEquals(exitCode, run.exitCode());
    }

    // ---- Scans ----

    @Test
    void aScanPrintsPairsInTheOrderOfTheirKeys() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("scan").printed("");
            kv.hkvctl("set", "b=2", "a=1", "ab=", "c\n=ü", "ac=🦫").printed("OK revision=1\n");
            kv.hkvctl("scan").printed("a=1\nab=\nac=🦫\nb=2\nc\\x0a=ü\n");
            kv.hkvctl("scan", "--prefix", "a").printed("a=1\nab=\nac=🦫\n");
            kv.hkvctl("scan", "--prefix", "").printed("a=1\nab=\nac=🦫\nb=2\nc\\x0a=ü\n");
            kv.hkvctl("scan", "--from", "ab", "--to", "b").printed("ab=\nac=🦫\n");
            kv.hkvctl("scan", "--from", "b").printed("b=2\nc\\x0a=ü\n");
            kv.hkvctl("scan", "--to", "ab").printed("a=1\n");
            kv.hkvctl("scan", "--from", "b", "--to", "a").printed("");
            kv.hkvctl("scan", "--from=c\\x0a").printed("c\\x0a=ü\n");
            kv.hkvctl("scan", "--reverse", "--limit", "2").printed("c\\x0a=ü\nb=2\n");
            kv.hkvctl("scan", "--limit", "1").printed("a=1\n");
            kv.hkvctl("scan", "--keys-only", "--prefix", "a").printed("a\nab\nac\n");
            kv.hkvctl("scan", "--count-only").printed("5\n");
            kv.hkvctl("scan", "--count-only", "--prefix=a").printed("3\n");
            kv.hkvctl("--cmd", "scan", "--prefix", "b").printed("b=2\n");
        }
    }

    /** The store has four times as many bytes as the client has heap. */
    @Test
    void aScanOfAnySizeTakesLittleMemory() throws Exception {
        try (Harness kv = new Harness()) {
            int keys = 100_000;
            List<Write> writes = new ArrayList<>();
            Bytes value = Bytes.utf8("v".repeat(800));
            for (int i = 0; i < keys; i++) {
                writes.add(new Write.Put(Bytes.utf8("k%06d".formatted(i)), value));
            }
            new MemoryCommandLog(kv.store).submit(new Command.Set(writes));
            String port = Integer.toString(kv.port());
            List<String> command =
                    Harness.java(Hkvctl.class, List.of("-XX:+UseSerialGC", "-Xmx20m"), "scan", "-p", port);
            try (Harness.Child child = new Harness.Child("hkvctl", Map.of(), command)) {
                try (BufferedReader lines = new BufferedReader(
                        new InputStreamReader(child.process.getInputStream(), StandardCharsets.UTF_8))) {
                    for (int i = 0; i < keys; i++) {
                        assertEquals("k%06d=%s".formatted(i, value.utf8()), lines.readLine());
                    }
                    assertNull(lines.readLine());
                }
                assertEquals(0, child.process.waitFor());
            }
        }
    }

    // ---- The past ----

    @Test
    void olderRevisionsAreReadBySetGetAndScan() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=1").printed("OK revision=1\n");
            kv.hkvctl("set", "a=2", "b=1").printed("OK revision=2\n");
            kv.hkvctl("del", "a").printed("OK deleted=1 revision=3\n");
            kv.hkvctl("get", "a", "b", "--rev", "1").printed("a=1\nb (not found)\n");
            kv.hkvctl("get", "a", "--rev", "0").printed("a (not found)\n");
            kv.hkvctl("get", "a", "b", "--rev=2").printed("a=2\nb=1\n");
            kv.hkvctl("scan", "--rev", "2").printed("a=2\nb=1\n");
            kv.hkvctl("scan", "--rev", "3").printed("b=1\n");
            kv.hkvctl("scan", "--rev", "0").printed("");
            kv.hkvctl("scan", "--rev", "2", "--count-only").printed("2\n");
        }
    }

    @Test
    void aRevisionThatCannotBeReadIsARefusalThatNamesThoseThatCan() throws IOException {
        try (Harness kv = new Harness()) {
            for (int i = 1; i <= 5; i++) {
                kv.hkvctl("set", "k=" + i).printed("OK revision=" + i + "\n");
            }
            kv.hkvctl("compact", "3").printed("OK\n");
            for (String line : List.of(
                    "get k --rev 2",
                    "get k --rev 6",
                    "scan --rev 2",
                    "scan --rev 6",
                    "scan --count-only --rev 2",
                    "diff --rev 2..4",
                    "diff --rev 4..6",
                    "compact 2",
                    "compact 6")) {
                kv.hkvctl(line.split(" ")).failed(REFUSED, "3", "5");
            }
            for (String line : List.of("watch --from-rev 3", "watch --from-rev 7")) {
                kv.hkvctl(line.split(" ")).failed(REFUSED, "4", "6");
            }
            kv.hkvctl("get", "k", "--rev", "3").printed("k=3\n");
            kv.hkvctl("history", "k")
                    .printed("revision=3 version=3 k=3\nrevision=4 version=4 k=4\nrevision=5 version=5 k=5\n");
        }
    }

    @Test
    void aHistoryIsALineAVersionOldestFirst() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("history", "k").printed("");
            kv.hkvctl("set", "k=1", "l=1");
            kv.hkvctl("set", "k=2 \n=");
            kv.hkvctl("del", "k");
            kv.hkvctl("set", "k=");
            kv.hkvctl("history", "k")
                    .printed("revision=1 version=1 k=1\nrevision=2 version=2 k=2 \\x0a=\nrevision=3 k (deleted)\n"
                            + "revision=4 version=1 k=\n");
            kv.hkvctl("--cmd", "history", "--keys", "l").printed("revision=1 version=1 l=1\n");
            kv.hkvctl("history", "").failed(REFUSED, "empty");
        }
    }

    @Test
    void aDiffTellsWhatWasThereAndWhatIs() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=1", "b=1", "p1=1", "same=1");
            kv.hkvctl("set", "b=2", "c=1");
            kv.hkvctl("del", "a", "p1");
            kv.hkvctl("diff", "--rev", "1..3").printed("- a=1\n- b=1\n+ b=2\n+ c=1\n- p1=1\n");
            kv.hkvctl("diff", "--rev", "1..3", "--prefix", "p").printed("- p1=1\n");
            kv.hkvctl("diff", "--rev", "0..1", "--prefix", "a").printed("+ a=1\n");
            kv.hkvctl("diff", "--rev", "2..2").printed("");
        }
    }

    // ---- Read and write at once ----

    @Test
    void casSetsOnlyWhatIsAsExpectedAndTellsWhatWasFound() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("cas", "k", "--expect", "1", "--set", "2").failed(NOT_EXPECTED, "k is not there", "nothing was");
            kv.hkvctl("cas", "k", "--absent", "--set", "1").printed("OK revision=1\n");
            kv.hkvctl("cas", "k", "--absent", "--set", "1").failed(NOT_EXPECTED, "k has the value 1");
            kv.hkvctl("cas", "k", "--expect", "1", "--set", "two\n🦫").printed("OK revision=2\n");
            kv.hkvctl("cas", "k", "--expect", "1", "--set", "3").failed(NOT_EXPECTED, "the value two\\x0a🦫");
            kv.hkvctl("cas", "--set=", "--expect=two\\x0a🦫", "k").printed("OK revision=3\n");
            kv.hkvctl("cas", "k", "--expect=", "--set", "-1").printed("OK revision=4\n");
            kv.hkvctl("get", "k").printed("k=-1\n");
            kv.hkvctl("cas", "", "--absent", "--set", "1").failed(REFUSED, "empty");
        }
    }

    @Test
    void incrPrintsTheSumAndRefusesWhatIsNoNumber() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("incr", "k").printed("1\n");
            kv.hkvctl("incr", "k", "41").printed("42\n");
            kv.hkvctl("incr", "k", "-50").printed("-8\n");
            kv.hkvctl("get", "k").printed("k=-8\n");
            kv.hkvctl("set", "t=text", "max=9223372036854775807");
            kv.hkvctl("incr", "t").failed(REFUSED, "integer");
            kv.hkvctl("incr", "max").failed(REFUSED);
            kv.hkvctl("get", "t", "max").printed("t=text\nmax=9223372036854775807\n");
        }
    }

    @Test
    void getsetAndGetdelPrintWhatWasThereAsGetDoes() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("getset", "k", "1").printed("k (not found)\n");
            kv.hkvctl("getset", "k", "a=b").printed("k=1\n");
            kv.hkvctl("getdel", "k").printed("k=a=b\n");
            kv.hkvctl("getdel", "k").printed("k (not found)\n");
            assertNull(kv.value(Bytes.utf8("k")));
        }
    }

    // ---- Transactions ----

    @Test
    void aTransactionPrintsALineForEachStepThatWasCarriedOut() throws IOException {
        try (Harness kv = new Harness()) {
            String script = """
                    # The first time nothing is there.
                    if p:a exists
                    if p:a value = 1
                    then
                      get p:a
                      get none
                      scan p: limit 1
                      scan p:
                      count p:
                      incr n 5
                      delprefix p:
                      get p:a
                    else
                      put p:a=1
                      put p:b=2\\x203
                    """;
            printed(NOT_EXPECTED, "ELSE revision=1\nput p:a\nput p:b\n", kv.txn(script));
            printed(
                    0,
                    "OK revision=2\np:a=1\nnone (not found)\np:a=1\nfound=1 and more\np:a=1\np:b=2 3\nfound=2\n"
                            + "found=2\nn=5\ndeleted=2\np:a (not found)\n",
                    kv.txn(script));
        }
    }

    @Test
    void aTransactionThatChangesNothingTakesNoRevision() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=1");
            printed(0, "OK revision=1\nk=1\n", kv.txn("get k"));
            printed(NOT_EXPECTED, "ELSE revision=1\n", kv.txn("if k value = 2\nthen\nput k=3\n"));
        }
    }

    @Test
    void everyConditionOfTheHelpHoldsWhereItShould() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "a=5", "p1=5", "p2=7");
            kv.hkvctl("set", "a=5");
            for (String holds : List.of(
                    "a value = 5",
                    "a value != 6",
                    "a value < 6",
                    "a value > 4",
                    "a version = 2",
                    "a create = 1",
                    "a mod = 2",
                    "a lease = 0",
                    "a count = 1",
                    "a exists",
                    "b absent",
                    "b version = 0",
                    "prefix:p count = 2",
                    "prefix:p value > 4",
                    "prefix:q absent",
                    "range:a..p count = 1",
                    "range:p2.. exists",
                    "range:..b count < 2")) {
                printed(0, "OK revision=2\na=5\n", kv.txn("if " + holds + "\nthen\nget a"));
            }
            for (String fails : List.of(
                    "a value = 6",
                    "a value < 5",
                    "a version > 2",
                    "a create = 2",
                    "a mod < 2",
                    "a lease > 0",
                    "a absent",
                    "b exists",
                    "b value != 5",
                    "prefix:p value = 5",
                    "prefix:p count > 2")) {
                printed(NOT_EXPECTED, "ELSE revision=2\n", kv.txn("if " + fails + "\nthen\nget a"));
            }
        }
    }

    @Test
    void aScriptIsReadFromAFileOrFromStandardInput(@TempDir Path folder) throws IOException {
        Path file = Files.writeString(folder.resolve("script"), "put k=ü\nget k\n");
        try (Harness kv = new Harness()) {
            kv.hkvctl("txn", file.toString()).printed("OK revision=1\nput k\nk=ü\n");
            printed(0, "OK revision=2\nput k\nk=ü\n", kv.txn(Files.readString(file)));
            kv.hkvctl("txn", folder.toString()).failed(USAGE, "cannot read the script", folder.toString());
        }
    }

    @Test
    void aWrongLineInAScriptSendsNothing() throws IOException {
        try (Harness kv = new Harness()) {
            kv.txn("put k=1\nset k=2\n").failed(USAGE, "line 2: there is no step set");
            assertEquals(0, kv.store.revision());
        }
    }

    @Test
    void aTransactionThatIsRefusedChangesNothing() throws IOException {
        try (Harness kv = new Harness()) {
            kv.txn("put k=x\nincr k\n").failed(REFUSED, "integer");
            kv.txn("put k=x lease 5\n").failed(REFUSED, "lease");
            assertEquals(0, kv.store.revision());
        }
    }

    @Test
    void theHelpOfTxnIsAboutScripts() {
        for (String line : List.of("txn --help", "--help --cmd txn")) {
            Harness.Run help = Harness.run(List.of(line.split(" ")));
            assertTrue(help.out().startsWith("hkvctl txn "), help.out());
            assertEquals(0, help.exitCode());
            help.out().lines().forEach(each -> assertTrue(each.length() <= 120, each));
        }
    }

    /** The script that the help shows can be copied and works. */
    @Test
    void theScriptInTheHelpOfTxnIsOne() throws IOException {
        Matcher script = Pattern.compile("(?s)( {2}# Money.*?)\n\n").matcher(TxnScript.HELP);
        assertTrue(script.find());
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "account:ada=60", "account:bob=5");
            printed(0, "OK revision=2\nput account:ada\naccount:bob=15\n", kv.txn(script.group(1)));
            printed(NOT_EXPECTED, "ELSE revision=2\naccount:ada=50\n", kv.txn(script.group(1)));
        }
    }

    // ---- Leases ----

    private static long lease(String line) {
        Matcher lease = Pattern.compile("lease=([1-9][0-9]*)").matcher(line);
        assertTrue(lease.find(), line);
        return Long.parseLong(lease.group(1));
    }

    @Test
    void aSetForATimeHasALeaseThatTakesItsKeysAlong() throws IOException {
        try (Harness kv = new Harness()) {
            Harness.Run run = kv.hkvctl("set", "a=1", "b=2", "--ttl", "100m");
            long lease = lease(run.out());
            run.printed("OK revision=1 lease=" + lease + "\n");
            assertEquals(2, kv.store.lease(lease).keys());
            assertEquals(6_000_000, kv.store.lease(lease).ttlMillis());
            kv.hkvctl("set", "c=3", "--lease", Long.toString(lease)).printed("OK revision=2 lease=" + lease + "\n");
            kv.hkvctl("set", "a=1").printed("OK revision=3\n");
            kv.hkvctl("lease", "revoke", Long.toString(lease)).printed("OK deleted=2 revision=4\n");
            kv.hkvctl("scan").printed("a=1\n");
        }
    }

    @Test
    void aSetForATimeThatIsRefusedLeavesNoLease() throws IOException {
        try (Harness kv = new Harness(ROOMY.with(Limit.VALUE_BYTES, 3))) {
            kv.hkvctl("set", "a=1234", "--ttl", "1m").failed(REFUSED, "--max-value-bytes");
            assertEquals(List.of(), kv.store.leases());
        }
    }

    @Test
    void leasesAreGrantedKeptAliveListedAndRevoked() throws IOException {
        try (Harness kv = new Harness()) {
            kv.hkvctl("lease", "list").printed("");
            Harness.Run granted = kv.hkvctl("lease", "grant", "90m");
            long lease = lease(granted.out());
            granted.printed("OK lease=" + lease + "\n");
            String id = Long.toString(lease);
            kv.hkvctl("set", "a=1", "--lease", id);
            String status = "lease=" + id + " ttl=5400s left=5[34][0-9]{2}(\\.[0-9]{1,3})?s keys=1\n";
            for (String line : List.of("lease keep-alive " + id, "lease time-left " + id, "lease list")) {
                Harness.Run run = kv.hkvctl(line.split(" "));
                assertTrue(run.out().matches(status), run.out());
                assertEquals(0, run.exitCode());
            }
            kv.hkvctl("lease", "revoke", id).printed("OK deleted=1 revision=2\n");
            kv.hkvctl("lease", "list").printed("");
        }
    }

    @Test
    void aLeaseThatIsNotThereIsARefusal() throws IOException {
        try (Harness kv = new Harness()) {
            for (String line :
                    List.of("lease keep-alive 7", "lease time-left 7", "lease revoke 7", "set a=1 --lease 7")) {
                kv.hkvctl(line.split(" ")).failed(REFUSED, "lease 7");
            }
            assertEquals(0, kv.store.revision());
        }
    }

    // ---- Watches ----

    /** Output that a test waits for, a line at a time, and can break. */
    private static final class Pipe extends OutputStream {
        private final StringBuilder text = new StringBuilder();
        private boolean broken;

        @Override
        public void write(int b) throws IOException {
            write(new byte[] {(byte) b}, 0, 1);
        }

        @Override
        public synchronized void write(byte[] bytes, int from, int length) throws IOException {
            if (broken) {
                throw new IOException("Broken pipe");
            }
            text.append(new String(bytes, from, length, StandardCharsets.ISO_8859_1));
            notifyAll();
        }

        /** Waits for so many lines, and returns all. */
        synchronized String await(int lines) throws InterruptedException {
            while (text.chars().filter(c -> c == '\n').count() < lines) {
                wait();
            }
            return text.toString();
        }

        synchronized void breakOff() {
            broken = true;
        }
    }

    /** A watch on a thread of its own, that has begun: it prints from the first revision on. */
    private record Watching(Pipe pipe, Thread thread, List<Harness.Run> ended) {
        static Watching start(Harness kv, String... args) {
            Pipe pipe = new Pipe();
            List<Harness.Run> ended = new ArrayList<>();
            List<String> typed = new ArrayList<>(List.of("watch", "-p", Integer.toString(kv.port())));
            typed.addAll(List.of(args));
            Thread thread =
                    Thread.ofVirtual().start(() -> ended.add(Harness.run(typed, pipe, new ByteArrayOutputStream())));
            return new Watching(pipe, thread, ended);
        }

        Harness.Run end() throws InterruptedException {
            thread.join();
            return ended.get(0);
        }
    }

    @Test
    void aWatchPrintsEachChangeAsItComesAndEndsWellWithItsPipe() throws Exception {
        try (Harness kv = new Harness()) {
            Watching watch = Watching.start(kv, "--from-rev", "1", "--timeout", "1s");
            kv.hkvctl("set", "b=1", "a=1");
            String both = watch.pipe().await(2);
            assertEquals(
                    List.of("revision=1 version=1 a=1", "revision=1 version=1 b=1"),
                    both.lines().sorted().toList());
            kv.hkvctl("set", "a=2\n");
            assertEquals(both + "revision=2 version=2 a=2\\x0a\n", watch.pipe().await(3));
            kv.hkvctl("del", "a");
            assertTrue(watch.pipe().await(4).endsWith("\nrevision=3 a (deleted)\n"));
            watch.pipe().breakOff();
            kv.hkvctl("set", "a=3");
            watch.end().printed("");
        }
    }

    @Test
    void aWatchOfAKeyOrPrefixPrintsNoOthersAndWithPrevWhatWasThere() throws Exception {
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=old one", "ka=1", "other=1");
            Watching key = Watching.start(kv, "k", "--prev", "--from-rev", "2");
            Watching prefix = Watching.start(kv, "--prefix", "k", "--from-rev", "1");
            kv.hkvctl("set", "ka=2", "other=2");
            kv.hkvctl("set", "k=new", "other=3");
            kv.hkvctl("del", "k");
            assertEquals(
                    "revision=3 version=2 was=old\\x20one k=new\nrevision=4 was=new k (deleted)\n",
                    key.pipe().await(2));
            String printed = prefix.pipe().await(5);
            assertTrue(
                    printed.endsWith("revision=2 version=2 ka=2\nrevision=3 version=2 k=new\nrevision=4 k (deleted)\n"),
                    printed);
            for (Watching watch : List.of(key, prefix)) {
                watch.pipe().breakOff();
            }
            kv.hkvctl("set", "k=1");
            key.end().printed("");
            prefix.end().printed("");
        }
    }

    @Test
    void aWatchThatLosesItsServerForGoodIsUnreachable() throws Exception {
        try (Harness kv = new Harness()) {
            Watching watch = Watching.start(kv, "--from-rev", "1", "--timeout", "50ms");
            kv.hkvctl("set", "k=1");
            watch.pipe().await(1);
            int port = kv.port();
            kv.server.close();
            watch.end().failed(5, "127.0.0.1:" + port);
        }
    }

    /** As Ctrl-C does, SIGTERM ends it from outside; here it also shows that nothing is held back until the end. */
    @Test
    void aWatchThatIsInterruptedEndsWithZero() throws Exception {
        try (Harness kv = new Harness()) {
            String port = Integer.toString(kv.port());
            List<String> command = Harness.java(
                    Hkvctl.class, List.of("-XX:+UseSerialGC", "-Xmx64m"), "watch", "-p", port, "--from-rev", "1");
            try (Harness.Child child = new Harness.Child("hkvctl", Map.of(), command)) {
                kv.hkvctl("set", "k=1");
                assertEquals("revision=1 version=1 k=1", child.readLine());
                child.terminate();
                child.end().printed("");
            }
        }
    }

    // ---- Pipes ----

    @Test
    void aReaderThatHasHadEnoughIsNoFailure() throws IOException {
        OutputStream closed = new OutputStream() {
            @Override
            public void write(int b) throws IOException {
                throw new IOException("Broken pipe");
            }
        };
        try (Harness kv = new Harness()) {
            kv.hkvctl("set", "k=1");
            Harness.run(List.of("scan", "-p", Integer.toString(kv.port())), closed, new ByteArrayOutputStream())
                    .printed("");
        }
    }

    // ---- Servers of the original kind ----

    @Test
    void aServerThatDoesNotKnowACommandIsOneLineThatAsksForItsAge() throws IOException {
        try (Http2.Server server =
                Http2.Server.of((method, request) -> Http2.Answer.status(12, "unknown method " + method))) {
            for (String line : List.of(
                    "scan",
                    "scan --count-only",
                    "cas k --absent --set v",
                    "incr k",
                    "getset k v",
                    "getdel k",
                    "history k",
                    "diff --rev 1..2",
                    "compact 1",
                    "watch",
                    "lease grant 5s",
                    "lease list",
                    "set a=1 --ttl 5s",
                    "snapshot",
                    "backup -",
                    "export -")) {
                List<String> args = new ArrayList<>(List.of(line.split(" ")));
                args.addAll(List.of("-p", Integer.toString(server.port())));
                Harness.run(args).failed(REFUSED, "UNIMPLEMENTED", "as new as this client?");
            }
        }
    }
}
