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
