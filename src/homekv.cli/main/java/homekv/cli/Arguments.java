package homekv.cli;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * A command line taken apart into flags and operands, which may stand in any order.
 *
 * <p>Arguments are kept as the bytes that were typed, one {@code char} a byte (Latin-1), since a key may have any
 * bytes. Flags are ASCII.
 */
final class Arguments {
    /** What may follow a flag. */
    enum Takes {
        NOTHING,
        VALUE,
        /** A value, unless the next argument begins with {@code -} or there is none. */
        VALUE_OR_NOTHING,
        /** At least one operand; which ones are its own cannot be told from the others, nor need it be. */
        OPERANDS
    }

    private static final Pattern TIME = Pattern.compile("([0-9]{1,9})(ms|s|m|)");

    private final Map<String, String> values = new HashMap<>();
    private final List<String> operands = new ArrayList<>();

    private Arguments() {}

    /**
     * Takes {@code args} apart.
     *
     * @param flags what each flag takes, by its long name
     * @param shortNames long names by short ones
     */
    static Arguments parse(List<String> args, Map<String, Takes> flags, Map<String, String> shortNames)
            throws UsageException {
        Arguments parsed = new Arguments();
        for (int i = 0; i < args.size(); i++) {
            String arg = args.get(i);
            if (arg.equals("--")) {
                parsed.operands.addAll(args.subList(i + 1, args.size()));
                break;
            }
            if (!beginsLikeFlag(arg)) {
                parsed.operands.add(arg);
                continue;
            }
            int equals = arg.startsWith("--") ? arg.indexOf('=') : -1;
            String name = equals < 0 ? shortNames.getOrDefault(arg, arg) : arg.substring(0, equals);
            Takes takes = flags.get(name);
            if (takes == null) {
                throw new UsageException("unknown flag " + Text.show(arg) + "; --help lists them all");
            }
            boolean nextIsValue = i + 1 < args.size() && !beginsLikeFlag(args.get(i + 1));
            String value;
            if (equals >= 0) {
                value = arg.substring(equals + 1);
            } else if (takes == Takes.VALUE || takes == Takes.VALUE_OR_NOTHING) {
                value = nextIsValue ? args.get(++i) : null;
            } else {
                value = null;
            }
            boolean moreBehindDashes = i + 2 < args.size() && args.get(i + 1).equals("--");
            parsed.put(name, takes, value, nextIsValue || moreBehindDashes);
        }
        return parsed;
    }

    private void put(String name, Takes takes, String value, boolean operandFollows) throws UsageException {
        if (values.containsKey(name) && takes != Takes.OPERANDS) {
            throw new UsageException(name + " is given twice");
        }
        switch (takes) {
            case NOTHING -> {
                if (value != null) {
                    throw new UsageException(name + " takes no value");
                }
            }
            case VALUE -> {
                if (value == null) {
                    throw new UsageException(name + " needs a value");
                }
            }
            case VALUE_OR_NOTHING -> {}
            case OPERANDS -> {
                if (value == null && !operandFollows) {
                    throw new UsageException(name + " needs at least one value behind it");
                }
                if (value != null) {
                    operands.add(value);
                }
            }
        }
        values.put(name, value);
    }

    /** A lone {@code -} is no flag, nor is a negative number. */
    private static boolean beginsLikeFlag(String arg) {
        return arg.length() > 1 && arg.charAt(0) == '-' && !(arg.charAt(1) >= '0' && arg.charAt(1) <= '9');
    }

    /** Whether a flag is given. */
    boolean has(String name) {
        return values.containsKey(name);
    }

    /** The flags that are given, by their long names, in the order of the alphabet. */
    Set<String> flags() {
        return new TreeSet<>(values.keySet());
    }

    /** The value of a flag, if the flag is given and has one. */
    Optional<String> value(String name) {
        return Optional.ofNullable(values.get(name));
    }

    /** What is no flag and no flag's value, in order. */
    List<String> operands() {
        return operands;
    }

    /** The value of a flag as a whole number from {@code min} to {@code max}. */
    long number(String name, long defaultValue, long min, long max) throws UsageException {
        String value = values.get(name);
        return value == null ? defaultValue : number(name, value, min, max);
    }

    /** What was typed for {@code what} as a whole number from {@code min} to {@code max}. */
    static long number(String what, String typed, long min, long max) throws UsageException {
        try {
            long number = Long.parseLong(typed);
            if (number >= min && number <= max) {
                return number;
            }
        } catch (NumberFormatException e) {
            // Said below, in the same words as for a number out of range.
        }
        throw new UsageException(
                what + " takes a whole number from " + min + " to " + max + ", not " + Text.show(typed));
    }

    /** What was typed for {@code what} as a time of at least {@code min}: 500ms, 5s, 2m; without a unit, seconds. */
    static Duration time(String what, String typed, Duration min) throws UsageException {
        Matcher time = TIME.matcher(typed);
        if (time.matches()) {
            long number = Long.parseLong(time.group(1));
            Duration duration = switch (time.group(2)) {
                case "ms" -> Duration.ofMillis(number);
                case "m" -> Duration.ofMinutes(number);
                default -> Duration.ofSeconds(number);
            };
            if (duration.compareTo(min) >= 0) {
                return duration;
            }
        }
        throw new UsageException(what + " takes a time such as 500ms, 5s or 2m, not " + Text.show(typed));
    }

    /**
     * The arguments of {@code main} as the bytes that were typed.
     *
     * <p>In a locale without UTF-8 the JVM has lost every byte above 127 by now. Linux still has them, in /proc; on
     * other systems (macOS) the JVM always takes arguments for UTF-8, and only bytes that are not UTF-8 are lost.
     */
    static List<String> typed(String[] mainArgs) {
        List<String> all;
        try {
            // Each argument ends with a zero byte.
            String commandLine = Files.readString(Path.of("/proc/self/cmdline"), StandardCharsets.ISO_8859_1);
            all = Arrays.asList(commandLine.split("\0", -1));
        } catch (IOException e) {
            all = List.of(); // Not Linux, or /proc is not mounted: what the JVM has must do.
        }
        int end = Math.max(0, all.size() - 1);
        if (end > mainArgs.length) {
            return all.subList(end - mainArgs.length, end);
        }
        return Arrays.stream(mainArgs).map(Arguments::oneCharPerByte).toList();
    }

    private static String oneCharPerByte(String arg) {
        return new String(arg.getBytes(StandardCharsets.UTF_8), StandardCharsets.ISO_8859_1);
    }
}
