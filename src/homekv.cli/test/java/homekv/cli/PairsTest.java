package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.storage.Bytes;
import homekv.storage.Entry;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.SplittableRandom;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Pairs as JSON Lines: what is written, what is read, and what is said of lines that are neither. */
class PairsTest {
    private static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static PairReader reader(byte[] bytes) throws IOException {
        return new PairReader("f", new ByteArrayInputStream(bytes));
    }

    private static Pair read(String line) throws IOException, PairReader.WrongLineException {
        PairReader reader = reader(utf8(line));
        Pair pair = reader.next();
        assertNull(reader.next());
        assertEquals(1, reader.lines());
        assertEquals(utf8(line).length, reader.bytes());
        return pair;
    }

    private static Pair pair(String key, String value, long lease) {
        return new Pair(Bytes.utf8(key), Bytes.utf8(value), lease);
    }

    private static String refused(String line) {
        return assertThrows(PairReader.WrongLineException.class, () -> read(line), line)
                .getMessage();
    }

    private static byte[] written(Pair... pairs) throws IOException {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        PairWriter writer = new PairWriter(out);
        for (Pair pair : pairs) {
            writer.write(new Entry(pair.key(), pair.value(), 1, 1, 1, pair.lease()));
        }
        writer.flush();
        assertEquals(out.size(), writer.bytes());
        return out.toByteArray();
    }

    // ---- What is written ----

    @Test
    void textIsWrittenAsTextAndOtherBytesInBase64() throws IOException {
        assertEquals(
                "{\"key\":\"ü/🦫\",\"value\":\"\"}\n",
                new String(written(pair("ü/🦫", "", 0)), StandardCharsets.UTF_8));
        assertEquals(
                "{\"key\":\"a\\\"b\\\\c/\",\"value\":\"\\n\\r\\t\\u0000\\u001f\u007f\",\"lease\":9223372036854775807}\n",
                new String(written(pair("a\"b\\c/", "\n\r\t\0\u001f\u007f", Long.MAX_VALUE)), StandardCharsets.UTF_8));
        byte[] bytes = {(byte) 0xff, (byte) 0xd8, 0, 1};
        assertEquals(
                "{\"key_base64\":\"/w==\",\"value_base64\":\"/9gAAQ==\"}\n",
                new String(
                        written(new Pair(Bytes.copyOf(Arrays.copyOf(bytes, 1)), Bytes.copyOf(bytes), 0)),
                        StandardCharsets.UTF_8));
    }

    // ---- What is read ----

    @Test
    void fieldsStandInAnyOrderWithSpaceBetweenThem() throws Exception {
        assertEquals(pair("k", "v", 0), read("{\"key\":\"k\",\"value\":\"v\"}"));
        assertEquals(pair("k", "v", 0), read("{\"key\":\"k\",\"value\":\"v\"}\n"));
        assertEquals(pair("k", "v", 0), read("{\"value\":\"v\",\"key\":\"k\"}\r\n"));
        assertEquals(
                pair("k", "v", 81),
                read(" \t{ \"value_base64\" :\t\"dg==\" , \"lease\" : 81 , \"key_base64\" : \"aw==\" } \t\n"));
        assertEquals(pair("k", "v", 0), read("{\"\\u006bey\":\"k\",\"value_base64\":\"\\u0064g==\"}"));
    }

    @Test
    void everyEscapeIsWhatJsonSays() throws Exception {
        assertEquals(
                pair("\"\\/\b\f\n\r\t", "\0aé€🦫\u007f", 0),
                read(
                        "{\"key\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\",\"value\":\"\\u0000\\u0061\\u00E9\\u20ac\\ud83e\\uDDAB\u007f\"}"));
        assertEquals(pair("é€🦫", "\u2028", 0), read("{\"key\":\"é€🦫\",\"value\":\"\u2028\"}"));
    }

    @Test
    void aByteOrderMarkInFrontOfTheFirstLineIsNoPartOfIt() throws Exception {
        assertEquals(pair("k", "v", 0), read("\ufeff{\"key\":\"k\",\"value\":\"v\"}\n"));
        assertTrue(refused("\ufeff\ufeff{\"key\":\"k\",\"value\":\"v\"}\n").contains("\\xef"));
    }

    @Test
    void anEmptyFileHasNoPair() throws Exception {
        assertNull(reader(new byte[0]).next());
        assertNull(reader(utf8("\ufeff")).next());
    }

    @Test
    void linesAreSkippedWhateverIsInThem() throws Exception {
        byte[] lines = utf8("nonsense\n\n{\"key\":\"k\",\"value\":\"v\"}\nnot ended");
        PairReader reader = reader(lines);
        assertTrue(reader.skip(2));
        assertEquals(pair("k", "v", 0), reader.next());
        assertEquals(3, reader.lines());
        assertEquals("f:4: ", reader.at(4));
        assertTrue(assertThrows(PairReader.WrongLineException.class, reader::next)
                .getMessage()
                .startsWith("f:4: "));
        assertTrue(reader(lines).skip(4));
        PairReader shorter = reader(lines);
        assertFalse(shorter.skip(5));
        assertEquals(4, shorter.lines());
        assertTrue(reader(new byte[0]).skip(0));
        assertFalse(reader(new byte[0]).skip(1));
    }

    /** Bytes come in pieces of any size from a pipe. */
    @Test
    void whereReadsEndDoesNotMatter() throws Exception {
        byte[] line = written(pair("kü", "v\n🦫", 7));
        InputStream slow = new ByteArrayInputStream(line) {
            @Override
            public synchronized int read(byte[] into, int from, int length) {
                return super.read(into, from, Math.min(length, 1));
            }
        };
        PairReader reader = new PairReader("f", slow);
        assertEquals(pair("kü", "v\n🦫", 7), reader.next());
        assertNull(reader.next());
    }

    @Test
    void theLargestValueThatAServerTakesIsReadFromItsLongestLine() throws Exception {
        byte[] value = new byte[16 << 20];
        byte[] line = written(new Pair(Bytes.utf8("k"), Bytes.unsafeWrap(value), 0));
        assertEquals(6L * value.length + 23, line.length);
        assertEquals(Bytes.unsafeWrap(value), reader(line).next().value());
        Arrays.fill(value, (byte) 0x80);
        line = written(new Pair(Bytes.utf8("k"), Bytes.unsafeWrap(value), 0));
        assertEquals(Bytes.unsafeWrap(value), reader(line).next().value());
    }

    // ---- What is refused ----

    @ParameterizedTest
    @CsvSource(
            delimiter = '|',
            quoteCharacter = '\0',
            value = {
                "[]                                        | expected a line such as {\"key\":\"text\",\"value\":\"text\"}, found the byte [",
                "{}                                        | expected a field in quotes, found the byte }",
                "{\"key\":\"k\"}                           | there is no value",
                "{\"value\":\"v\"}                         | there is no key",
                "{\"key\":\"\",\"value\":\"v\"}            | the key is empty",
                "{\"key_base64\":\"\",\"value\":\"v\"}     | the key is empty",
                "{\"key\":\"k\",\"value\":\"v\",}          | expected a field in quotes, found the byte }",
                "{\"key\":\"k\" \"value\":\"v\"}           | expected a comma or }, found the byte \"",
                "{\"key\" \"k\",\"value\":\"v\"}           | expected a colon, found the byte \"",
                "{\"key\":\"k\",\"value\":\"v\"} x         | expected nothing behind the }, found the byte x",
                "{\"key\":\"k\",\"value\":\"v\"}{}         | expected nothing behind the }, found the byte {",
                "{\"key\":\"k\",\"value\":\"v\"            | expected a comma or }, found the end of the file",
                "{\"key\":\"k\",\"value\":\"v              | expected the end of a text, a quote, found the end of the file",
                "{\"key\":\"k\",\"value\":null}            | expected the value as a text in quotes, found the byte n",
                "{\"key\":\"k\",\"value\":1}               | expected the value as a text in quotes, found the byte 1",
                "{\"key\":\"k\",\"Value\":\"v\"}           | unknown field Value; a pair has key or key_base64",
                "{\"key\":\"k\",\"\":\"v\"}                | unknown field ''",
                "{\"key\":\"k\",\"key\":\"k\"}             | there are two fields for the key",
                "{\"key\":\"k\",\"key_base64\":\"aw==\"}   | there are two fields for the key",
                "{\"value\":\"k\",\"value_base64\":\"aw==\"} | there are two fields for the value",
                "{\"lease\":1,\"lease\":1}                 | there are two fields for the lease",
                "{\"lease\":0}                             | lease takes a whole number from 1 to 9223372036854775807",
                "{\"lease\":9223372036854775808}           | lease takes a whole number",
                "{\"lease\":-1}                            | lease takes a whole number",
                "{\"lease\":01}                            | lease takes a whole number",
                "{\"lease\":\"1\"}                         | lease takes a whole number",
                "{\"lease\":1.0}                           | expected a comma or }, found the byte .",
                "{\"lease\":1e3}                           | expected a comma or }, found the byte e",
                "{\"key\":\"\\x\"}                         | expected one of \"\\/bfnrtu behind the backslash, found the byte x",
                "{\"key\":\"\\u12g4\"}                     | expected four hexadecimal digits behind \\u, found the byte g",
                "{\"key\":\"\\ud83e\"}                     | half of a surrogate pair",
                "{\"key\":\"\\uddab\"}                     | half of a surrogate pair",
                "{\"key\":\"\\ud83e\\u0041\"}              | half of a surrogate pair",
                "{\"key\":\"\\ud83e\\n\"}                  | expected the second half of a surrogate pair, found the byte n",
                "{\"key_base64\":\"aw\"}                   | the key_base64 is not base64",
                "{\"key_base64\":\"aw=\"}                  | the key_base64 is not base64",
                "{\"key_base64\":\"ax==\"}                 | the key_base64 is not base64",
                "{\"key_base64\":\"a w=\"}                 | the key_base64 is not base64",
                "{\"key_base64\":\"_w==\"}                 | the key_base64 is not base64",
                "{\"key_base64\":\"aw==aw==\"}             | the key_base64 is not base64",
            })
    void aWrongLineIsNamedWithWhatIsWrong(String line, String what) {
        String message = refused(line);
        assertTrue(message.startsWith("f:1: " + what), message);
        assertTrue(message.matches(".* \\(byte [0-9]+\\)"), message);
    }

    @Test
    void emptyLinesAndControlCharactersWithinTextAreWrong() throws IOException {
        assertTrue(refused("\n").startsWith("f:1: expected a line such as"));
        assertTrue(refused("{\"key\":\"k\",\"value\":\"v\"}\n\n").startsWith("f:2: expected a line such as"));
        assertTrue(refused("{\"key\":\"a\tb\"}").contains("found the byte \\x09 (byte 10)"));
        assertTrue(refused("{\"key\":\"a\n\"}").contains("found the end of the line (byte 10)"));
    }

    @Test
    void textThatIsNotUtf8IsWrong() throws IOException {
        for (String bytes :
                List.of("\u00ff", "\u00c3", "\u00ed\u00a0\u0080", "\u00c0\u0080", "\u00c3\\u00e9", "\\u00e9\u00a9")) {
            byte[] line = ("{\"key\":\"" + bytes + "\",\"value\":\"\"}").getBytes(StandardCharsets.ISO_8859_1);
            String message = assertThrows(
                            PairReader.WrongLineException.class,
                            () -> reader(line).next())
                    .getMessage();
            assertTrue(message.contains("the key is not UTF-8; other bytes are given as key_base64"), message);
        }
    }

    // ---- Any bytes ----

    @Test
    void whatIsWrittenIsReadAsTheSamePairs() throws Exception {
        Harness.seeded(Harness.count(200, 10_000), random -> {
            List<Pair> pairs = new ArrayList<>();
            for (int i = random.nextInt(20); i >= 0; i--) {
                byte[] key = Harness.randomContent(random, 40);
                if (key.length > 0) {
                    long lease = random.nextInt(3) == 0 ? 1 + (random.nextLong() >>> 1 + random.nextInt(60)) / 2 : 0;
                    byte[] value = Harness.randomContent(random, random.nextInt(10) == 0 ? 200_000 : 200);
                    pairs.add(new Pair(Bytes.copyOf(key), Bytes.copyOf(value), lease));
                }
            }
            byte[] lines = written(pairs.toArray(Pair[]::new));
            assertNotNull(Json.text(lines), "written lines are UTF-8");
            PairReader reader = reader(lines);
            for (Pair pair : pairs) {
                assertEquals(pair, reader.next());
            }
            assertNull(reader.next());
            assertEquals(pairs.size(), reader.lines());
        });
    }

    /** A valid line with some bytes changed, left out, put in or doubled. */
    private static byte[] mutated(SplittableRandom random, byte[] line) {
        String alphabet =
                "{}[]\":,\\/bfnrtu0123456789abcdefDdEe.-+= \t\r_keyvaluelease46\u0000\u001f\u007f\u00c3\u00a9\u00ed\u00ff";
        StringBuilder text = new StringBuilder(new String(line, StandardCharsets.ISO_8859_1));
        for (int i = random.nextInt(4); i >= 0 && text.length() > 0; i--) {
            int at = random.nextInt(text.length());
            char c = alphabet.charAt(random.nextInt(alphabet.length()));
            switch (random.nextInt(5)) {
                case 0 -> text.setCharAt(at, c);
                case 1 -> text.insert(at, c);
                case 2 -> text.deleteCharAt(at);
                case 3 -> text.insert(at, text.substring(at, Math.min(text.length(), at + random.nextInt(12))));
                default -> text.delete(at, Math.min(text.length(), at + random.nextInt(8)));
            }
        }
        return text.toString().replace("\n", "").getBytes(StandardCharsets.ISO_8859_1);
    }

    @Test
    void aMutatedLineIsRefusedOrReadAsAStrictJsonReaderReadsIt() throws Exception {
        List<String> valid = List.of(
                "{\"key\":\"user/ada\",\"value\":\"36\"}",
                "{\"key\":\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\ud83e\\uddab\",\"value\":\"\"}",
                "{\"key_base64\":\"/w==\",\"value_base64\":\"/9j/4A==\",\"lease\":81}",
                " { \"lease\" : 9223372036854775807 , \"value\" : \"ü🦫\" , \"key\" : \"k\" } ");
        int[] read = new int[1];
        Harness.seeded(Harness.count(300, 20_000), random -> {
            for (int i = 0; i < 100; i++) {
                byte[] line = mutated(random, utf8(valid.get(random.nextInt(valid.size()))));
                Pair expected = Json.pair(line);
                Pair actual;
                try {
                    actual = reader(line).next();
                    read[0]++;
                } catch (PairReader.WrongLineException e) {
                    assertTrue(e.getMessage().matches("f:1: [^\\p{Cntrl}]+ \\(byte [0-9]+\\)"), e.getMessage());
                    actual = null;
                }
                assertEquals(expected, actual, () -> new String(line, StandardCharsets.ISO_8859_1));
            }
        });
        assertTrue(read[0] > 0 || Long.getLong("homekv.seed") != null, "some mutations are valid lines");
    }

    /** A strict reader of JSON objects without nesting, in the words of RFC 8259, and by regular expressions. */
    private static final class Json {
        private static final String SPACE = "[ \\t\\r]*+";
        private static final String STRING = "\"(?:[^\"\\\\\\x00-\\x1f]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4})*+\"";
        private static final String NUMBER = "-?(?:0|[1-9][0-9]*+)(?:\\.[0-9]++)?(?:[eE][-+]?[0-9]++)?";
        private static final Pattern MEMBER = Pattern.compile(SPACE + "(" + STRING + ")" + SPACE + ":" + SPACE + "("
                + STRING + "|" + NUMBER + ")" + SPACE + "([,}])");

        /** The text that bytes are, null if they are not UTF-8. */
        static String text(byte[] utf8) {
            try {
                return StandardCharsets.UTF_8
                        .newDecoder()
                        .decode(ByteBuffer.wrap(utf8))
                        .toString();
            } catch (CharacterCodingException e) {
                return null;
            }
        }

        /** The pair that a line is, null if it is none. */
        static Pair pair(byte[] line) {
            String json = text(line);
            Map<String, String> members =
                    json == null ? null : members(json.startsWith("\ufeff") ? json.substring(1) : json);
            if (members == null) {
                return null;
            }
            Bytes key = bytes(members, "key");
            Bytes value = bytes(members, "value");
            String lease = members.getOrDefault("lease", "1");
            boolean isLease = lease.matches("[1-9][0-9]*") && new BigInteger(lease).bitLength() < Long.SIZE;
            if (key == null
                    || value == null
                    || key.length() == 0
                    || !isLease
                    || !members.keySet().stream().allMatch(name -> name.matches("(key|value)(_base64)?|lease"))) {
                return null;
            }
            return new Pair(key, value, members.containsKey("lease") ? Long.parseLong(lease) : 0);
        }

        private static Bytes bytes(Map<String, String> members, String name) {
            String text = members.get(name);
            String base64 = members.get(name + "_base64");
            if ((text == null) == (base64 == null)) {
                return null;
            }
            if (text != null) {
                byte[] utf8 = text.substring(1).getBytes(StandardCharsets.UTF_8);
                return text.startsWith("\"") && text(utf8).equals(text.substring(1)) ? Bytes.unsafeWrap(utf8) : null;
            }
            if (!base64.matches("\"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")) {
                return null;
            }
            byte[] bytes = Base64.getDecoder().decode(base64.substring(1));
            return Base64.getEncoder().encodeToString(bytes).equals(base64.substring(1))
                    ? Bytes.unsafeWrap(bytes)
                    : null;
        }

        /** Names and values, null for what is no object or has a name twice. A string has a quote in front. */
        private static Map<String, String> members(String json) {
            Map<String, String> members = new LinkedHashMap<>();
            Matcher begin = Pattern.compile(SPACE + "\\{").matcher(json);
            if (!begin.lookingAt()) {
                return null;
            }
            Matcher member = MEMBER.matcher(json).region(begin.end(), json.length());
            while (member.lookingAt()) {
                String name = unescaped(member.group(1)).substring(1);
                String value = member.group(2).startsWith("\"") ? unescaped(member.group(2)) : member.group(2);
                if (members.put(name, value) != null) {
                    return null;
                }
                if (member.group(3).equals("}")) {
                    return json.substring(member.end()).matches(SPACE) ? members : null;
                }
                member.region(member.end(), json.length());
            }
            return null;
        }

        private static String unescaped(String string) {
            Matcher escape =
                    Pattern.compile("\\\\(?:u([0-9a-fA-F]{4})|(.))").matcher(string.substring(0, string.length() - 1));
            return escape.replaceAll(found -> Matcher.quoteReplacement(
                    found.group(1) != null
                            ? String.valueOf((char) Integer.parseInt(found.group(1), 16))
                            : String.valueOf("\"\\/\b\f\n\r\t".charAt("\"\\/bfnrt".indexOf(found.group(2))))));
        }
    }
}
