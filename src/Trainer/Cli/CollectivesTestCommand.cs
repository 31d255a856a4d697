using System.CommandLine;
using System.Diagnostics;
using Z1Coder.Perf;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 selftest collectives, as every rank of a job: mpirun -n 2 z1 selftest collectives</summary>
internal static class CollectivesTestCommand
{
    private const int PlantedAt = 3, LongSleep = 10_000;

    public static Command Create()
    {
        var device = Devices.Option();
        var backend = new Option<string>("--backend") { Description = "auto, nccl, mpi or tcp", DefaultValueFactory = _ => "auto" };
        backend.AcceptOnlyFromAmong([.. RankWorld.Backends]);
        var timeout = new Option<double>("--timeout")
        {
            Description = "seconds that an operation may wait for other ranks", DefaultValueFactory = _ => 60,
        };
        PlanCommand.Within(timeout, 0, 86_400, above: true);
        var plant = new Option<string?>("--plant")
        {
            Description = "a fault of the last rank, to see how it is reported: hang, sleep, mismatch, death, error or exit",
        };
        plant.AcceptOnlyFromAmong("hang", "sleep", "mismatch", "death", "error", "exit");
        var command = new Command(
            "collectives", "Proves that the ranks of a job can reduce: every operation against its definition, on every rank.")
        {
            device, backend, timeout, plant,
        };
        Devices.Agree(command, device, backend);
        command.SetAction(parsed =>
        {
            var seconds = parsed.GetValue(timeout);
            var options = new CollectiveOptions
            {
                Timeout = TimeSpan.FromSeconds(seconds), JoinTimeout = TimeSpan.FromSeconds(Math.Max(seconds, 10)),
            };
            var fingerprint = $"z1 {typeof(CollectivesTestCommand).Assembly.GetName().Version}";
            using var stream = Devices.Open(parsed.GetValue(device)!);
            using var world = RankWorld.Open(RankEnvironment.Detect(), parsed.GetValue(backend)!, stream, fingerprint, options);
            var failed = 0;
            var results = new List<SelfTestResult>();
            foreach (var result in CollectiveSelfTest.Run(world.Collective, stream))
            {
                results.Add(result);
                if (result.Passed != true)
                {
                    failed++;
                    Console.WriteLine($"{result.Verdict,-8}rank {world.Rank}: {result.Name}  {result.Detail}");
                }

                if (results.Count == PlantedAt && parsed.GetValue(plant) is { } fault && world.Rank == world.Size - 1)
                {
                    Plant(fault, world, stream);
                }
            }

            Console.WriteLine(
                $"rank {world.Rank} of {world.Size} over {world.Collective.Backend} on {stream.DeviceName}: "
                + $"{results.Count - failed} of {results.Count} checks passed");
            return world.Any(failed > 0) ? 1 : 0;
        });
        return command;
    }

    private static void Plant(string fault, RankWorld world, ComputeStream stream)
    {
        switch (fault)
        {
            case "hang":
                Thread.Sleep(Timeout.Infinite);
                break;
            case "sleep":
                Thread.Sleep(LongSleep);
                break;
            case "mismatch":
                using (var arena = stream.CreateArena("planted"))
                {
                    var data = arena.Declare<float>(5);
                    arena.Allocate();
                    world.Collective.Wait(stream, world.Collective.Broadcast(stream, data, 0));
                }

                break;
            case "death":
                Process.GetCurrentProcess().Kill();
                break;
            case "exit":
                Environment.Exit(7);
                break;
            default:
                throw new InvalidInputException("a planted error");
        }
    }
}
