package homekv.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import homekv.rpc.HomeKvServer;
import homekv.storage.Limit;
import homekv.storage.Limits;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/** Command lines: what is a flag, what is its value, what is neither; and that --help tells of all flags. */
class ArgumentsTest {
    private static final Map<String, Arguments.Takes> FLAGS = Map.of(
            "--switch", Arguments.Takes.NOTHING,
            "--number", Arguments.Takes.VALUE,
            "--host", Arguments.Takes.VALUE_OR_NOTHING,
            "--keys", Arguments.Takes.OPERANDS);

    private static Arguments parse(String... args) throws UsageException {
        return Arguments.parse(List.of(args), FLAGS, Map.of("-h", "--host", "-n", "--number"));
    }

    private static String refused(String... args) {
        return assertThrows(UsageException.class, () -> parse(args), () -> String.join(" ", args))
                .getMessage();
    }

    // ---- Where flags stand ----

    @Test
    void flagsMayStandBeforeBetweenAndAfterOperands() throws UsageException {
        for (String line :
                List.of("--switch -n 7 a b", "a --switch b -n 7", "a b -n 7 --switch", "a -n 7 b --switch")) {
            Arguments parsed = parse(line.split(" "));
            assertEquals(List.of("a", "b"), parsed.operands(), line);
            assertEquals(Optional.of("7"), parsed.value("--number"), line);
            assertTrue(parsed.has("--switch"), line);
            assertFalse(parsed.has("--host"), line);
        }
    }

    @Test
    void operandsKeepTheirOrderAndTheirRepetitions() throws UsageException {
        assertEquals(
                List.of("b", "a", "b", ""), parse("b", "--switch", "a", "b", "").operands());
    }

    @Test
    void aHostMayBeLeftOutInFrontOfAFlagAndAtTheEnd() throws UsageException {
        Arguments inFront = parse("-h", "-n", "7");
        assertTrue(inFront.has("--host"));
        assertEquals(Optional.empty(), inFront.value("--host"));
        assertEquals(Optional.of("7"), inFront.value("--number"));
        assertEquals(Optional.empty(), parse("a", "--host").value("--host"));
        assertEquals(List.of("-a"), parse("-h", "--", "-a").operands());
        assertEquals(Optional.of("a"), parse("-h", "a").value("--host"));
        assertEquals(Optional.of("a"), parse("--host=a").value("--host"));
        assertEquals(Optional.of(""), parse("-h", "").value("--host"));
    }

    @Test
    void aValueMayFollowAnEqualsSignAndHaveMoreOfThem() throws UsageException {
        assertEquals(Optional.of("7"), parse("--number=7").value("--number"));
        assertEquals(Optional.of("a=b="), parse("--number=a=b=").value("--number"));
        assertEquals(Optional.of(""), parse("--number=").value("--number"));
        assertEquals(Optional.of("-7"), parse("--number=-7").value("--number"));
        assertEquals(List.of("a=b", "c"), parse("--keys=a=b", "c").operands());
    }

    @Test
    void flagsThatTakeOperandsMayBeRepeated() throws UsageException {
        assertEquals(
                List.of("a", "b", "c"), parse("--keys", "a", "b", "--keys", "c").operands());
    }

    @Test
    void behindTwoDashesNothingIsAFlag() throws UsageException {
        Arguments parsed = parse("a", "--", "--switch", "--", "-n", "--bogus");
        assertEquals(List.of("a", "--switch", "--", "-n", "--bogus"), parsed.operands());
        assertFalse(parsed.has("--switch"));
        assertEquals(List.of(), parse("--").operands());
    }

    @Test
    void operandsBehindTwoDashesAreThoseOfTheFlagInFrontOfThem() throws UsageException {
        assertEquals(List.of("-a", "b"), parse("--keys", "--", "-a", "b").operands());
        assertTrue(refused("--keys", "--").contains("--keys"));
    }

    @Test
    void aLoneDashIsAnOperandAndAValue() throws UsageException {
        assertEquals(List.of("-"), parse("-").operands());
        assertEquals(Optional.of("-"), parse("-n", "-").value("--number"));
    }

    /** No flag begins with a digit, and numbers are what commands add. */
    @Test
    void aNegativeNumberIsAnOperandAndAValue() throws UsageException {
        assertEquals(List.of("k", "-1", "-12a"), parse("k", "-1", "-12a").operands());
        assertEquals(Optional.of("-7"), parse("-n", "-7").value("--number"));
    }

    @Test
    void aTimeHasAUnitOrIsInSeconds() throws UsageException {
        assertEquals(Duration.ofMillis(1), Arguments.time("--t", "1ms", Duration.ofMillis(1)));
        assertEquals(Duration.ofSeconds(30), Arguments.time("--t", "30s", Duration.ZERO));
        assertEquals(Duration.ofSeconds(30), Arguments.time("--t", "30", Duration.ZERO));
        assertEquals(Duration.ofMinutes(2), Arguments.time("--t", "2m", Duration.ZERO));
        assertEquals(Duration.ZERO, Arguments.time("--t", "0", Duration.ZERO));
    }

    @ParameterizedTest
    @ValueSource(strings = {"", "0", "0ms", "-1s", "1h", "1.5s", "s", "1 s", "1S", "9999999999s", "\u0000"})
    void aTimeThatIsNoneOrTooShortIsRefusedWithExamples(String typed) {
        String message = assertThrows(UsageException.class, () -> Arguments.time("--t", typed, Duration.ofMillis(1)))
                .getMessage();
        assertTrue(message.startsWith("--t takes a time such as 500ms, 5s or 2m, not "), message);
        assertFalse(message.chars().anyMatch(Character::isISOControl), message);
    }

    // ---- What is refused ----

    @ParameterizedTest
    @ValueSource(
            strings = {
                "--bogus",
                "-b",
                "--switches",
                "--swit",
                "-n7",
                "-n=7",
                "--=a",
                "---",
                "-switch",
                "--SWITCH",
                "a --bogus b",
                "-k",
                "-hn"
            })
    void anUnknownFlagIsRefusedByName(String line) {
        Matcher flag = Pattern.compile("-\\S*").matcher(line);
        assertTrue(flag.find());
        assertTrue(refused(line.split(" ")).contains("unknown flag " + flag.group()));
    }

    @Test
    void aMissingValueIsRefused() {
        assertEquals("--number needs a value", refused("--number"));
        assertEquals("--number needs a value", refused("-n"));
        assertEquals("--number needs a value", refused("-n", "--switch"));
        assertTrue(refused("--keys").startsWith("--keys needs"));
        assertTrue(refused("--keys", "--switch").startsWith("--keys needs"));
    }

    @Test
    void aValueForAFlagThatTakesNoneIsRefused() {
        assertEquals("--switch takes no value", refused("--switch=1"));
        assertEquals("--switch takes no value", refused("--switch="));
    }

    @Test
    void aFlagThatIsGivenTwiceIsRefusedUnderEitherName() {
        for (String line : List.of(
                "-n 1 --number 2", "--number=1 -n 1", "--switch a --switch", "-h --host", "-h -h a", "--host=a -h")) {
            assertTrue(refused(line.split(" ")).endsWith(" is given twice"), line);
        }
    }

    @ParameterizedTest
    @ValueSource(
            strings = {
                "0",
                "11",
                "-1",
                "1.5",
                "1e1",
                "0x5",
                "ten",
                "",
                " 5",
                "5 ",
                "1_0",
                "9223372036854775808",
                "-9223372036854775809",
                "99999999999999999999999999",
                "4294967297",
                "\u00b2",
                "\u0000\n5"
            })
    void aNumberThatIsNoneOrOutOfRangeIsRefusedWithTheRange(String number) throws UsageException {
        Arguments parsed = parse("--number=" + number);
        String message = assertThrows(UsageException.class, () -> parsed.number("--number", 5, 1, 10))
                .getMessage();
        assertTrue(message.startsWith("--number takes a whole number from 1 to 10, not "), message);
        assertFalse(message.chars().anyMatch(Character::isISOControl), message);
    }

    @Test
    void aNumberIsTakenAtBothEndsOfItsRangeAndHasADefault() throws UsageException {
        assertEquals(1, parse("-n", "1").number("--number", 5, 1, 10));
        assertEquals(10, parse("-n", "10").number("--number", 5, 1, 10));
        assertEquals(5, parse().number("--number", 5, 1, 10));
        assertEquals(Long.MAX_VALUE, parse("-n", "9223372036854775807").number("--number", 5, 0, Long.MAX_VALUE));
    }

    @Test
    void anyCommandLineIsTakenOrRefusedInOneCleanLine() throws Exception {
        List<String> pieces = List.of(
                "--switch",
                "--number",
                "-n",
                "-h",
                "--host",
                "--keys",
                "--",
                "-",
                "",
                "=",
                "--number=",
                "--keys=a",
                "a=b",
                "--switch=1",
                "--bogus",
                "-\u001b[2J",
                "--\n=\u00c2\u0085",
                "\u00ff",
                "--number=5");
        Harness.seeded(Harness.count(20, 2_000), random -> {
            for (int i = 0; i < 500; i++) {
                List<String> args = new ArrayList<>();
                while (random.nextInt(7) > 0) {
                    args.add(
                            random.nextInt(4) > 0
                                    ? pieces.get(random.nextInt(pieces.size()))
                                    : new String(Harness.randomContent(random, 8), StandardCharsets.ISO_8859_1));
                }
                try {
                    Arguments parsed = Arguments.parse(args, FLAGS, Map.of("-h", "--host", "-n", "--number"));
                    assertTrue(parsed.operands().size() <= args.size(), args::toString);
                    parsed.number("--number", 5, 1, 10);
                } catch (UsageException e) {
                    String message = e.getMessage();
                    assertFalse(message.chars().anyMatch(Character::isISOControl), args::toString);
                    assertFalse(message.isBlank(), args::toString);
                }
            }
        });
    }

    // ---- What --help says ----

    @Test
    void theHelpOfHkvctlListsEveryFlagThatItTakesAndNoOther() throws Exception {
        Set<String> taken = new TreeSet<>(flags(constant(Hkvctl.class, "FLAGS")));
        taken.addAll(flags(constant(Hkvctl.class, "SHORT_FLAGS")));
        assertEquals(taken, flagsIn(constant(Hkvctl.class, "HELP").toString() + Bench.HELP));
    }

    @Test
    void theHelpOfHomekvListsEveryFlagThatItTakesAndNoOther() throws Exception {
        var flagsMethod = Homekv.class.getDeclaredMethod("flags");
        flagsMethod.setAccessible(true);
        Set<String> taken = new TreeSet<>(flags(flagsMethod.invoke(null)));
        taken.addAll(flags(constant(Homekv.class, "SHORT_FLAGS")));
        assertEquals(taken, flagsIn(constant(Homekv.class, "HELP").toString()));
    }

    @Test
    void theHelpOfHomekvTellsTheDefaultsThatLimitsHave() throws Exception {
        String help = constant(Homekv.class, "HELP").toString();
        Limits defaults = Limits.defaults();
        int told = 0;
        for (Limit limit : Limit.values()) {
            Matcher line = Pattern.compile(Pattern.quote(HomeKvServer.flag(limit)) + " N .*; ([0-9]+)\n")
                    .matcher(help);
            if (line.find()) {
                assertEquals(defaults.get(limit), Long.parseLong(line.group(1)), limit::name);
                told++;
            }
        }
        assertEquals(5, told, "limits whose default does not depend on the heap");
    }

    @Test
    void theHelpFitsATerminal() throws Exception {
        for (Class<?> program : List.of(Hkvctl.class, Homekv.class)) {
            constant(program, "HELP").toString().lines().forEach(line -> assertTrue(line.length() <= 110, line));
        }
    }

    /** A program takes these flags: read where it holds them, since no command line tells what it does not refuse. */
    private static Set<String> flags(Object map) {
        Set<String> names = new TreeSet<>();
        ((Map<?, ?>) map).keySet().forEach(name -> names.add((String) name));
        return names;
    }

    private static Object constant(Class<?> program, String name) throws ReflectiveOperationException {
        var field = program.getDeclaredField(name);
        field.setAccessible(true);
        return field.get(null);
    }

    private static Set<String> flagsIn(String help) {
        Set<String> names = new TreeSet<>();
        Matcher flag =
                Pattern.compile("(?<![\\w-])(-[a-z]|--[a-z][a-z-]*)(?![\\w-])").matcher(help);
        while (flag.find()) {
            names.add(flag.group(1));
        }
        return names;
    }
}
