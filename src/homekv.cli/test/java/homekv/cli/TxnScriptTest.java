package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Compare;
import homekv.storage.Op;
import homekv.storage.Range;
import homekv.storage.Txn;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** The scripts of hkvctl txn: what they mean, and what is said of those that mean nothing. */
class TxnScriptTest {
    private static final Bytes K = Bytes.utf8("k");

    private static Txn parse(String... lines) throws UsageException {
        return TxnScript.parse(String.join("\n", lines));
    }

    private static Compare compare(String line) throws UsageException {
        Txn txn = parse(line, "then", "get k");
        assertEquals(1, txn.compares().size());
        return txn.compares().get(0);
    }

    private static Op step(String line) throws UsageException {
        Txn txn = parse(line);
        assertEquals(List.of(), txn.compares());
        assertEquals(List.of(), txn.otherwise());
        assertEquals(1, txn.then().size());
        return txn.then().get(0);
    }

    private static String refused(String... lines) {
        return assertThrows(UsageException.class, () -> parse(lines), () -> String.join("\n", lines))
                .getMessage();
    }

    @Test
    void conditionsThenAndElseAreTheThreePartsOfATransaction() throws UsageException {
        Txn expected = new Txn(
                List.of(
                        Compare.valueIs(K, Bytes.utf8("1")),
                        new Compare.Count(Range.key(Bytes.utf8("l")), Compare.Operator.EQUAL, 0)),
                List.of(new Op.Put(K, Bytes.utf8("2"), 0), new Op.Get(K)),
                List.of(new Op.Increment(K, 1)));
        assertEquals(
                expected,
                parse(
                        "# comment",
                        "",
                        "if k value = 1",
                        "\tif l absent  ",
                        "then",
                        "  put k=2",
                        " get k",
                        "else",
                        "incr k"));
    }

    @Test
    void linesMayEndAsOnAnySystemAndTheLastOneNotAtAll() throws UsageException {
        Txn txn = parse("if k exists", "then", "get k", "else", "get k");
        assertEquals(txn, TxnScript.parse("if k exists\r\nthen\r\nget k\r\nelse\r\nget k\r\n"));
        assertEquals(txn, TxnScript.parse("if k exists\nthen\n\n\nget k\nelse\nget k\n\n"));
    }

    @Test
    void withoutConditionsThenNeedNotBeWritten() throws UsageException {
        assertEquals(parse("then", "get k", "del k"), parse("get k", "del k"));
    }

    @Test
    void everyFieldAndOperatorCanBeCompared() throws UsageException {
        Range k = Range.key(K);
        assertEquals(new Compare.Value(k, Compare.Operator.EQUAL, Bytes.utf8("v")), compare("if k value = v"));
        assertEquals(new Compare.Value(k, Compare.Operator.NOT_EQUAL, Bytes.utf8("v")), compare("if k value != v"));
        assertEquals(
                new Compare.Number(k, Compare.Field.VERSION, Compare.Operator.LESS, 3), compare("if k version < 3"));
        assertEquals(
                new Compare.Number(k, Compare.Field.CREATE_REVISION, Compare.Operator.GREATER, 4),
                compare("if k create > 4"));
        assertEquals(
                new Compare.Number(k, Compare.Field.MODIFICATION_REVISION, Compare.Operator.EQUAL, Long.MAX_VALUE),
                compare("if k mod = 9223372036854775807"));
        assertEquals(new Compare.Number(k, Compare.Field.LEASE, Compare.Operator.EQUAL, 0), compare("if k lease = 0"));
        assertEquals(new Compare.Count(Range.prefix(K), Compare.Operator.LESS, 10), compare("if prefix:k count < 10"));
        assertEquals(new Compare.Count(k, Compare.Operator.GREATER, 0), compare("if k exists"));
        assertEquals(new Compare.Count(k, Compare.Operator.EQUAL, 0), compare("if k absent"));
    }

    @Test
    void operatorsNeedNoSpaceAroundThemAndEqualityMayBeWrittenTwice() throws UsageException {
        assertEquals(compare("if k value = v"), compare("if k value=v"));
        assertEquals(compare("if k value = v"), compare("if  k\tvalue  ==  v"));
        assertEquals(compare("if k version != 3"), compare("if k version!=3"));
        assertEquals(
                new Compare.Value(Range.key(K), Compare.Operator.EQUAL, Bytes.utf8("=v")), compare("if k value = =v"));
    }

    @Test
    void nothingBehindTheOperatorIsTheEmptyValue() throws UsageException {
        assertEquals(Compare.valueIs(K, Bytes.utf8("")), compare("if k value ="));
    }

    @Test
    void aTargetIsAKeyAPrefixOrARangeWithOpenEnds() throws UsageException {
        Bytes a = Bytes.utf8("a");
        Bytes b = Bytes.utf8("b");
        assertEquals(new Op.Delete(Range.key(a), false), step("del a"));
        assertEquals(new Op.Delete(Range.prefix(a), false), step("del prefix:a"));
        assertEquals(new Op.Delete(Range.prefix(a), false), step("delprefix a"));
        assertEquals(new Op.Delete(new Range(a, b), false), step("del range:a..b"));
        assertEquals(new Op.Delete(Range.from(a), false), step("del range:a.."));
        assertEquals(new Op.Delete(new Range(Bytes.utf8(""), b), false), step("del range:..b"));
        assertEquals(new Op.Delete(Range.all(), false), step("del range:.."));
        assertEquals(new Op.Delete(Range.all(), false), step("del prefix:"));
        assertEquals(new Op.Delete(Range.key(Bytes.utf8("prefix:a")), false), step("del \\x70refix:a"));
        assertEquals(new Op.Delete(new Range(Bytes.utf8("a..b"), null), false), step("del range:a\\x2e\\x2eb.."));
    }

    @Test
    void everyStepCanBeWritten() throws UsageException {
        assertEquals(new Op.Get(K), step("get k"));
        assertEquals(new Op.Scan(Range.prefix(K), false, 0, false), step("scan k"));
        assertEquals(new Op.Scan(Range.prefix(K), false, 3, false), step("scan k limit 3"));
        assertEquals(new Op.Scan(Range.all(), false, 3, false), step("scan limit 3"));
        assertEquals(new Op.Scan(Range.all(), false, 0, false), step("scan"));
        assertEquals(new Op.Scan(Range.from(K), false, 0, false), step("scan range:k.."));
        assertEquals(new Op.Scan(Range.prefix(K), false, 0, true), step("count k"));
        assertEquals(new Op.Put(K, Bytes.utf8("a=b"), 0), step("put k=a=b"));
        assertEquals(new Op.Put(K, Bytes.utf8(""), 0), step("put k="));
        assertEquals(new Op.Put(K, Bytes.utf8("v"), 81), step("put k=v lease 81"));
        assertEquals(new Op.Increment(K, 1), step("incr k"));
        assertEquals(new Op.Increment(K, -5), step("incr k -5"));
    }

    @Test
    void keysAndValuesAreAnyBytesByEscapes() throws UsageException {
        byte[] bytes = {' ', '\n', 0, -1, '='};
        assertEquals(
                new Op.Put(Bytes.unsafeWrap(bytes), Bytes.unsafeWrap(bytes), 0),
                step("put \\x20\\x0a\\x00\\xff\\x3d=\\x20\\x0a\\x00\\xff="));
        assertEquals(
                new Op.Put(Bytes.utf8("ü"), Bytes.utf8("🦫"), 0),
                TxnScript.parse(Harness.typed("put ü=🦫")).then().get(0));
    }

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '"',
            value = {
                "if                        | if TARGET",
                "if k                      | if TARGET",
                "if k value                | if TARGET",
                "if k value ~ v            | if TARGET",
                "if k value <= v           | if TARGET",
                "if k value = a b          | \\x20",
                "if k size = 1             | if TARGET",
                "if k version = x          | whole number from 0",
                "if k version =            | whole number from 0",
                "if k version = -1         | whole number from 0",
                "if k is there             | if TARGET",
                "if range:a value = b      | range:FROM..TO",
                "then get k                | then stands alone",
                "else                      | else stands once",
                "get                       | get KEY",
                "get a b                   | get KEY",
                "get prefix:a              | for a range, scan",
                "scan a b                  | scan [PREFIX] [limit N]",
                "scan a limit              | scan [PREFIX] [limit N]",
                "scan a limit x            | limit takes a whole number",
                "scan a limit 0            | limit takes a whole number",
                "put k                     | put KEY=VALUE [lease ID]",
                "put k=v w                 | \\x20",
                "put k=v lease             | put KEY=VALUE [lease ID]",
                "put k=v lease x           | lease takes a whole number",
                "put k=v lease 0           | lease takes a whole number",
                "del                       | del TARGET",
                "del a b                   | del TARGET",
                "delprefix                 | delprefix PREFIX",
                "incr                      | incr KEY [BY]",
                "incr k x                  | incr takes a whole number",
                "incr k 1 2                | incr KEY [BY]",
                "set k=v                   | there is no step set",
                "x\u001b[2J                | there is no step x\\x1b",
            })
    void aWrongLineIsNamedByItsNumberWithWhatToWrite(String line, String words) {
        String message = refused("# one", "", line, "get k");
        assertTrue(message.startsWith("line 3: "), message);
        assertTrue(message.contains(words), message);
        assertFalse(message.chars().anyMatch(Character::isISOControl), message);
    }

    @Test
    void thePartsStandInTheirOrderEachOnce() {
        assertTrue(refused("if k exists", "get k").startsWith("line 2: write then"));
        assertTrue(refused("get k", "if k exists").startsWith("line 2: conditions stand in front"));
        assertTrue(refused("if k exists", "then", "if k exists", "get k").startsWith("line 3: conditions"));
        assertTrue(refused("if k exists", "then", "get k", "then").startsWith("line 4: then stands once"));
        assertTrue(refused("if k exists", "else", "get k").startsWith("line 2: else stands once"));
        assertTrue(refused("if k exists", "then", "else", "else").startsWith("line 4: else stands once"));
        assertTrue(refused("get k", "then").startsWith("line 2: then stands once"));
        assertTrue(refused("get k", "else", "get l").startsWith("line 2: else stands once"));
    }

    @Test
    void aScriptWithoutStepsIsRefused() {
        for (String script : List.of("", "\n\n", "# nothing", "if k exists", "if k exists\nthen\nelse")) {
            assertTrue(refused(script).startsWith("the script has no step"), script);
        }
    }

    @Test
    void anyTextIsAScriptOrRefusedInOneCleanLine() throws Exception {
        List<String> pieces = List.of(
                "if ",
                "k ",
                "prefix:",
                "range:",
                "..",
                "value ",
                "count ",
                "= ",
                "<",
                "!=",
                "1 ",
                "then\n",
                "else\n",
                "\nget ",
                "\nscan ",
                "\nput k=v ",
                "lease ",
                "limit ",
                "\nincr ",
                "\ndel ",
                "\n",
                "\\x20",
                "#",
                "exists ");
        Harness.seeded(Harness.count(20, 2_000), random -> {
            for (int i = 0; i < 200; i++) {
                List<String> words = new ArrayList<>();
                while (random.nextInt(12) > 0) {
                    words.add(
                            random.nextInt(5) > 0
                                    ? pieces.get(random.nextInt(pieces.size()))
                                    : new String(Harness.randomContent(random, 6), StandardCharsets.ISO_8859_1));
                }
                String script = String.join("", words);
                try {
                    Txn txn = TxnScript.parse(script);
                    assertFalse(txn.then().isEmpty() && txn.otherwise().isEmpty(), script);
                } catch (UsageException e) {
                    assertFalse(e.getMessage().chars().anyMatch(Character::isISOControl), script);
                    assertFalse(e.getMessage().isBlank(), script);
                }
            }
        });
    }
}
