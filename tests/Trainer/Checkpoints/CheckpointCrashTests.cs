using System.Text;
using Xunit;
using Z1Coder.Trainer.Checkpoints;

namespace Z1Coder.Tests.Trainer.Checkpoints;

/// <summary>The plug is pulled at every single file operation; what was published before must be found afterwards, whole.</summary>
public sealed class CheckpointCrashTests
{
    private const string Run = "/runs/a";

    public static TheoryData<string, int> Crashes => new() { { "killed", 0 }, { "power cut, all lost", 0 }, { "power cut, some lost", 1 }, { "power cut, some lost", 2 }, { "power cut, some lost", 3 } };

    [Theory, MemberData(nameof(Crashes))]
    public void Saving_the_next_step(string crash, int seed) =>
        Assert.Equal(0, Losses(crash, seed, new(), keep: 2, store => Save(store, 30, "new"), [(20, "old"), (30, "new")]));

    [Theory, MemberData(nameof(Crashes))]
    public void Saving_the_next_step_of_two_ranks(string crash, int seed) =>
        Assert.Equal(0, Losses(crash, seed, new(), keep: 2, store => SaveAsTwoRanks(store, 30, "new"), [(20, "old"), (30, "new")]));

    [Theory, MemberData(nameof(Crashes))]
    public void Two_ranks_that_write_beside_their_steps(string crash, int seed) => Ranks(crash, seed, asynchronous: true, victim: null);

    [Theory]
    [InlineData("killed", 0)]
    [InlineData("power cut, some lost", 1)]
    public void Two_ranks_that_write_in_place(string crash, int seed) => Ranks(crash, seed, asynchronous: false, victim: null);

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void One_of_two_ranks_is_killed_while_both_write(int victim) => Ranks("killed", 0, asynchronous: true, victim);

    [Theory, MemberData(nameof(Crashes))]
    public void Replacing_the_newest_step(string crash, int seed) =>
        Assert.Equal(0, Losses(crash, seed, new(), keep: 1, store => Save(store, 20, "new"), [(20, "old"), (20, "new")]));

    [Theory, MemberData(nameof(Crashes))]
    public void Removing_old_checkpoints(string crash, int seed) =>
        Assert.Equal(0, Losses(crash, seed, new(), keep: 1, store => Save(store, 30, "new"), [(20, "old"), (30, "new")]));

    [Fact]
    public void A_disk_that_only_claims_to_flush_is_caught_by_these_tests()
    {
        Assert.NotEqual(0, Losses("power cut, all lost", 0, new() { LiesAboutFiles = true }, 2, s => Save(s, 30, "new"), [(20, "old"), (30, "new")]));
        Assert.NotEqual(0, Losses("power cut, all lost", 0, new() { LiesAboutFolders = true }, 2, s => Save(s, 30, "new"), [(20, "old"), (30, "new")]));
    }

    [Theory, MemberData(nameof(Crashes))]
    public void The_very_first_save(string crash, int seed)
    {
        for (var k = 0; ; k++)
        {
            var disk = new ForgetfulDisk { OperationsLeft = k };
            var finished = Attempt(() => Save(new(Run, 2, null, disk), 10, "first"));
            Restart(disk, crash, seed);
            var found = new CheckpointStore(Run, 2, null, disk).FindNewest();
            Assert.True(found is not null || !finished);
            Assert.Equal("first", found is null ? "first" : Content(found));
            if (finished)
            {
                Assert.True(k > 5);
                return;
            }
        }
    }

    /// <summary>Two ranks with steps 10 and 20 behind them save step 30 and die, both or one, at every operation there is.</summary>
    private static void Ranks(string crash, int seed, bool asynchronous, int? victim)
    {
        var (start, expected, afterwards) = (Undisturbed(20), Bits(Undisturbed(30)), Bits(Undisturbed(40)));
        var before = Bits(start);
        for (var k = 0; ; k++)
        {
            var disk = start.Copy();
            var disks = new[] { new FailingDisk(disk), new FailingDisk(disk) };
            if (victim is { } rank)
            {
                disks[rank].OperationsLeft = k;
            }
            else
            {
                disk.OperationsLeft = k;
            }

            var finished = TwoRanks(disks, 30, asynchronous).All(r => r.Thrown is null);
            Restart(disk, crash, seed + k);
            var found = Bits(disk);
            Assert.True(found == expected || (!finished && found == before), $"operation {k}: neither step 20 nor step 30 is whole");

            // the next run goes on from what it finds
            new CheckpointStore(Run, 2, null, disk).RemoveLeftovers();
            Assert.Equal(found, Bits(disk));
            Assert.All(TwoRanks([new(disk), new(disk)], 40, asynchronous), r => Assert.Null(r.Thrown));
            Assert.Equal(afterwards, Bits(disk));
            Assert.True(new CheckpointStore(Run, 2, null, disk).Steps.Count <= 2);
            if (finished)
            {
                Assert.True(k > (victim is null ? 20 : 6), $"only {k} operations");
                return;
            }
        }

        static ForgetfulDisk Undisturbed(long last)
        {
            var disk = new ForgetfulDisk();
            for (var step = 10L; step <= last; step += 10)
            {
                Assert.All(TwoRanks([new(disk), new(disk)], step, asynchronous: true), r => Assert.Null(r.Thrown));
            }

            return disk;
        }
    }

    private static (bool Result, Exception? Thrown)[] TwoRanks(FailingDisk[] disks, long step, bool asynchronous) => LockstepRanks.Run(2, ranks =>
    {
        using var state = new ShardedState(new(2, 1), ranks.Rank).Fill((int)step);
        using var writer = state.Writer(new CheckpointStore(Run, 2, null, disks[ranks.Rank]), ranks, asynchronous);
        writer.Begin(step, "progress.json", Encoding.UTF8.GetBytes($"{step}"));
        while (writer.IsPending)
        {
            writer.Poll();               // steps go by
        }

        return true;
    });

    /// <summary>Step, and name and hash of every file of the newest whole checkpoint.</summary>
    private static string Bits(ForgetfulDisk disk) => new CheckpointStore(Run, 2, null, disk).FindNewest() is { } found
        ? $"{found.Info.Step}: {string.Join(", ", found.Files.Select(f => $"{f.Name} {f.Sha256}"))}"
        : "none";

    /// <summary>How many crashes, one per operation, end with a checkpoint lost or damaged.</summary>
    private static int Losses(
        string crash, int seed, ForgetfulDisk template, int keep, Action<CheckpointStore> act, (long Step, string Content)[] allowed)
    {
        var losses = 0;
        for (var k = 0; ; k++)
        {
            var disk = new ForgetfulDisk { LiesAboutFiles = template.LiesAboutFiles, LiesAboutFolders = template.LiesAboutFolders };
            var before = new CheckpointStore(Run, keep: 2, null, disk);
            Save(before, 10, "older");
            Save(before, 20, "old");
            disk.OperationsLeft = k;
            var finished = Attempt(() => act(new(Run, keep, null, disk)));
            Restart(disk, crash, seed + k);

            // the next process starts; it, too, may die while it tidies up
            var (step, content) = Newest(disk);
            var whole = allowed.Contains((step, content)) && (!finished || (step, content) == allowed[^1]);
            disk.OperationsLeft = k % 7;
            Attempt(() => new CheckpointStore(Run, keep, null, disk).RemoveLeftovers());
            Restart(disk, crash, seed + k);
            whole &= Newest(disk) == (step, content);
            new CheckpointStore(Run, keep, null, disk).RemoveLeftovers();
            whole &= Newest(disk) == (step, content);
            whole &= template.LiesAboutFolders || disk.Directories(Run).All(d => d.Length == "step-00000000".Length);

            var after = new CheckpointStore(Run, keep, null, disk);
            Save(after, 40, "next");
            whole &= Newest(disk) == (40, "next");
            whole &= after.Steps.Count <= keep;
            losses += whole ? 0 : 1;
            if (finished)
            {
                Assert.True(k > 10);
                return losses;
            }
        }
    }

    private static (long Step, string Content) Newest(ForgetfulDisk disk) =>
        new CheckpointStore(Run, 0, null, disk).FindNewest() is { } found ? (found.Info.Step, Content(found)) : (-1, "");

    private static void Restart(ForgetfulDisk disk, string crash, int seed) =>
        disk.Restart(crash == "killed" ? null : new Random(seed), loseAll: crash.EndsWith("all lost", StringComparison.Ordinal));

    private static bool Attempt(Action action)
    {
        try
        {
            action();
            return true;
        }
        catch (PlugPulledException)
        {
            return false;
        }
    }

    private static void Save(CheckpointStore store, long step, string content) => store.Save(new(step, 1, "tiny"), draft =>
    {
        draft.Write("weights.bin", Encoding.UTF8.GetBytes(content));
        draft.Write("trainer.json", Encoding.UTF8.GetBytes($"{step}"));
    });

    private static void SaveAsTwoRanks(CheckpointStore store, long step, string content)
    {
        var info = new CheckpointInfo(step, 2, "tiny");
        var first = store.Begin(info);
        var second = store.Join(info, 1);
        second.Write("trainer.json", Encoding.UTF8.GetBytes($"{step}"));
        second.Finish();
        first.Write("weights.bin", Encoding.UTF8.GetBytes(content));
        store.Publish(first);
    }

    private static string Content(Checkpoint checkpoint)
    {
        Assert.Equal($"{checkpoint.Info.Step}", Read("trainer.json"));
        return Read("weights.bin");

        string Read(string name)
        {
            using var reader = new StreamReader(checkpoint.OpenRead(name));
            return reader.ReadToEnd();
        }
    }
}
