using System.CommandLine;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>z1 launch -n N -- VERB …</summary>
internal static class LaunchCommand
{
    private const int MostRanks = 1024, MostSeconds = 86_400, LongestPause = 30;

    public static Command Create()
    {
        var ranks = new Option<int>("-n") { Description = "processes: one for each GPU of this machine", Required = true };
        PlanCommand.Within(ranks, 1, MostRanks);
        var restarts = new Option<int>("--restarts") { Description = "how often a failed 'train' goes on from its newest verified checkpoint" };
        PlanCommand.Within(restarts, 0, int.MaxValue);
        var grace = new Option<int>("--grace")
        {
            Description = "seconds the other ranks get to end by themselves when one has failed; as many again after SIGTERM",
            DefaultValueFactory = _ => 10,
        };
        PlanCommand.Within(grace, 0, MostSeconds);
        var arguments = new Argument<string[]>("arguments")
        {
            Description = "after --: the verb that every rank runs, and its options", Arity = ArgumentArity.OneOrMore,
        };
        var command = new Command("launch", "Runs a verb as N ranks on this machine: z1 launch -n 2 -- train RECIPE --out DIRECTORY")
        {
            ranks, restarts, grace, arguments,
        };
        command.SetAction(parsed =>
        {
            var verb = parsed.GetValue(arguments)!;
            if (RankEnvironment.Detect() is { Size: > 1 } outer)
            {
                throw new UsageException(
                    $"{outer.Launcher} has started this as rank {outer.Rank} of {outer.Size}: run 'z1 {verb[0]} …' there itself; z1 "
                    + "launch starts the ranks of one machine");
            }

            if (Cli.Misuse(verb) is { } wrong)
            {
                throw new UsageException($"every rank would say: {string.Join("; ", wrong)}");
            }

            var stopped = verb[0] == "train" ? TrainCommand.StoppedExitCode(verb[1..]) : 0;
            return Run(new Launcher(parsed.GetValue(ranks), TimeSpan.FromSeconds(parsed.GetValue(grace)), stopped), verb, parsed.GetValue(restarts), stopped);
        });
        return command;
    }

    private static int Run(Launcher launcher, string[] verb, int restarts, int stopped)
    {
        var mayResume = restarts > 0 && MayResume(verb);
        using (launcher)
        {
            for (var used = 0; ; used++)
            {
                var exit = launcher.Run(used == 0 || verb.Contains("--resume") ? verb : [.. verb, "--resume"]);
                if (exit is null || exit.Code == stopped)
                {
                    return exit?.Code ?? 0;                // complete, or stopped by a signal with everything saved: rank 0 has said so
                }

                if (!mayResume || used == restarts || exit.IsMisuse || launcher.StopRequested)
                {
                    var counted = used == 0 ? "" : $", after {used} restart(s) of {restarts}";
                    launcher.Say($"z1: {exit.Sentence}{counted}");
                    return exit.Code;
                }

                var pause = Math.Min(LongestPause, 1 << Math.Min(used, 10));
                launcher.Say(
                    $"z1: {exit.Sentence}; restart {used + 1} of {restarts} in {pause} s, from the newest verified checkpoint");
                if (launcher.Pause(TimeSpan.FromSeconds(pause)))
                {
                    launcher.Say("z1: stopped before the restart");
                    return exit.Code;
                }
            }
        }
    }

    /// <summary>A run that was there before and was not asked to go on fails at once, and must not be continued by a restart.</summary>
    private static bool MayResume(string[] verb)
    {
        if (verb[0] != "train")
        {
            throw new UsageException($"--restarts goes on from a checkpoint, which '{verb[0]}' has none of: use it with train");
        }

        return TrainCommand.Directory(verb[1..]) is not { } run || run.Resume || !TrainRun.HasBegun(run.Directory);
    }
}
