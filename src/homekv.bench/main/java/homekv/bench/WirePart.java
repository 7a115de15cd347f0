package homekv.bench;

import homekv.bench.Report.Value;
import homekv.rpc.LoadGenerator;
import homekv.rpc.LoadGenerator.Keys;
import homekv.rpc.LoadGenerator.Outcome;
import homekv.rpc.LoadGenerator.Plan;
import homekv.storage.Bytes;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.ToDoubleFunction;

/**
 * What a call costs over the wire, beside what it costs an {@link EchoServer}: the two run in processes of their own, with
 * the same JVM and flags, and are asked in turns.
 */
final class WirePart implements Part {
    private static final int FEW_KEYS = 100_000;
    private static final int MANY_KEYS = 1_000_000;
    private static final int VALUE_BYTES = 100;
    private static final double ZIPF_THETA = 0.99;
    private static final int[] IN_FLIGHT = {1, 64, 256};
    private static final int[] CONNECTIONS = {1, 4};

    private enum Operation {
        GET("get", 100, 1),
        SET("set", 0, 1),
        GET_10("get of 10 keys", 100, 10),
        SET_10("set of 10 keys", 0, 10),
        MIXED("95% get, 5% set", 95, 1);

        private final String title;
        private final int readPercent;
        private final int keysPerCall;

        Operation(String title, int readPercent, int keysPerCall) {
            this.title = title;
            this.readPercent = readPercent;
            this.keysPerCall = keysPerCall;
        }

        Plan plan(Keys keys, int inFlight, Duration duration) {
            return Plan.of(keys, readPercent, keysPerCall, inFlight, duration);
        }
    }

    /** What is measured of both targets in turns. */
    private record Cell(Operation operation, Keys keys, int inFlight, int connections) {}

    /** The rounds of a cell: of HomeKV, and of the echo. */
    private record Rounds(List<Outcome> homeKv, List<Outcome> echo) {
        Value ratio() {
            double[] ratios = new double[homeKv.size()];
            for (int i = 0; i < ratios.length; i++) {
                ratios[i] = perServerCpuSecond(homeKv.get(i)) / perServerCpuSecond(echo.get(i));
            }
            return Value.median(ratios, "ratio");
        }
    }

    static double perServerCpuSecond(Outcome outcome) {
        return outcome.callsPerServerCpuSecond().orElse(Double.NaN);
    }

    static Value median(List<Outcome> rounds, ToDoubleFunction<Outcome> number, String unit) {
        return Value.median(rounds.stream().mapToDouble(number).toArray(), unit);
    }

    @Override
    public void measure(Report report, Setting setting) throws Exception {
        report.part("wire", "Over the wire, beside an echo of the same messages");
        Keys few = new Keys(Bytes.utf8("bench/"), setting.quick() ? 10_000 : FEW_KEYS, VALUE_BYTES, 0);
        Keys fewZipf = new Keys(few.prefix(), few.count(), VALUE_BYTES, ZIPF_THETA);
        Keys many = new Keys(few.prefix(), setting.quick() ? 20_000 : MANY_KEYS, VALUE_BYTES, 0);
        Keys manyZipf = new Keys(few.prefix(), many.count(), VALUE_BYTES, ZIPF_THETA);
        List<Cell> cells = new ArrayList<>();
        for (Operation operation : Operation.values()) {
            for (int connections : CONNECTIONS) {
                for (int inFlight : setting.quick() ? new int[] {64} : IN_FLIGHT) {
                    cells.add(new Cell(operation, few, inFlight, connections));
                }
            }
        }
        for (Operation operation : List.of(Operation.GET, Operation.SET)) {
            cells.add(new Cell(operation, fewZipf, 64, 1));
        }
        List<Cell> manyCells = new ArrayList<>();
        for (Operation operation : List.of(Operation.GET, Operation.SET, Operation.GET_10, Operation.SET_10)) {
            manyCells.add(new Cell(operation, many, 256, 4));
        }
        manyCells.add(new Cell(Operation.GET, manyZipf, 256, 4));
        try (Target homeKv = Target.homeKv(setting);
                Target echo = Target.echo(setting)) {
            for (Target target : List.of(homeKv, echo)) {
                target.load(1).fill(few);
                warmUp(target, few, setting);
            }
            report.text(
                    "Keys of %d bytes, values of %d. Calls per second of the server's processors first: what the load"
                                    .formatted(few.keyBytes(), VALUE_BYTES)
                            + " takes of the machine that it shares is not in them. The ratio is HomeKV's to the echo's.");
            Map<Cell, Rounds> rounds = rounds(homeKv, echo, cells, setting);
            print(report, "calls", cells, rounds);
            atRate(report, homeKv, echo, rounds, few, setting);
            for (Target target : List.of(homeKv, echo)) {
                target.load(1).fill(many);
            }
            print(report, "calls, many keys", manyCells, rounds(homeKv, echo, manyCells, setting));
        }
    }

    /** A million calls, of all kinds. */
    private static void warmUp(Target target, Keys keys, Setting setting) throws InterruptedException {
        for (Operation operation : Operation.values()) {
            long calls = (operation.keysPerCall == 1 ? 300_000 : 50_000) / (setting.quick() ? 20 : 1);
            target.run(4, operation.plan(keys, 256, LoadGenerator.MAX_DURATION).withCalls(calls));
        }
    }

    private static Map<Cell, Rounds> rounds(Target homeKv, Target echo, List<Cell> cells, Setting setting)
            throws InterruptedException {
        Duration duration = Duration.ofMillis(setting.quick() ? 50 : 350);
        Map<Cell, Rounds> rounds = new LinkedHashMap<>();
        for (int round = 0; round < (setting.quick() ? 1 : 9); round++) {
            for (Cell cell : cells) {
                Plan plan =
                        cell.operation.plan(cell.keys, cell.inFlight, duration).withWarmUpCalls(20L * cell.inFlight);
                Rounds both = rounds.computeIfAbsent(cell, c -> new Rounds(new ArrayList<>(), new ArrayList<>()));
                both.homeKv.add(homeKv.run(cell.connections, plan));
                both.echo.add(echo.run(cell.connections, plan));
            }
        }
        return rounds;
    }

    private static void print(Report report, String name, List<Cell> cells, Map<Cell, Rounds> rounds) {
        Report.Table table = report.table(
                name,
                List.of("call", "keys", "connections", "in flight"),
                List.of(
                        "per server CPU s",
                        "echo's",
                        "ratio",
                        "per s",
                        "echo's per s",
                        "p50",
                        "echo's p50",
                        "p99",
                        "echo's p99",
                        "client CPU a call"));
        for (Cell cell : cells) {
            List<Outcome> homeKv = rounds.get(cell).homeKv;
            List<Outcome> echo = rounds.get(cell).echo;
            table.row(
                    List.of(
                            cell.operation.title,
                            "%,d".formatted(cell.keys.count()) + (cell.keys.zipfTheta() > 0 ? ", Zipf" : ""),
                            cell.connections,
                            cell.inFlight),
                    median(homeKv, WirePart::perServerCpuSecond, "calls/s"),
                    median(echo, WirePart::perServerCpuSecond, "calls/s"),
                    rounds.get(cell).ratio(),
                    median(homeKv, Outcome::callsPerSecond, "calls/s"),
                    median(echo, Outcome::callsPerSecond, "calls/s"),
                    percentile(homeKv, 50),
                    percentile(echo, 50),
                    percentile(homeKv, 99),
                    percentile(echo, 99),
                    median(homeKv, o -> o.clientCpuMicros() * 1e3 / o.calls(), "ns"));
        }
    }

    static Value percentile(List<Outcome> rounds, double percent) {
        return median(rounds, outcome -> outcome.latencies().percentileNanos(percent), "ns");
    }

    /** Both at half the rate that HomeKV does at most. */
    private static void atRate(
            Report report, Target homeKv, Target echo, Map<Cell, Rounds> rounds, Keys keys, Setting setting)
            throws InterruptedException {
        report.text("At a rate of half of what HomeKV did with 64 in flight, from when each call was due:");
        Report.Table table = report.table(
                "at a rate",
                List.of("call", "server", "calls/s"),
                List.of("p50", "p99", "p99.9", "highest", "per server CPU s"));
        for (Operation operation : List.of(Operation.GET, Operation.SET, Operation.MIXED)) {
            double most = median(
                            rounds.get(new Cell(operation, keys, 64, 1)).homeKv, Outcome::callsPerSecond, "calls/s")
                    .value();
            long rate = Math.max(1, (long) (most / 2));
            Plan plan = operation
                    .plan(keys, 256, Duration.ofMillis(setting.quick() ? 100 : 4_000))
                    .withWarmUpCalls(5_000)
                    .withCallsPerSecond(rate);
            for (Target target : List.of(homeKv, echo)) {
                Outcome outcome = target.run(1, plan);
                table.row(
                        List.of(operation.title, target.name(), "%,d".formatted(rate)),
                        percentile(List.of(outcome), 50),
                        percentile(List.of(outcome), 99),
                        percentile(List.of(outcome), 99.9),
                        Value.of(outcome.latencies().maxNanos(), "ns"),
                        Value.of(perServerCpuSecond(outcome), "calls/s"));
            }
        }
    }
}
