using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;
using Xunit;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Checkpoints;

public sealed class CheckpointStoreTests : IDisposable
{
    private const string KilledRun = "Z1_TEST_KILLED_RUN";

    private readonly TemporaryFolder _folder = new();
    private readonly List<string> _reports = [];

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void What_is_saved_is_found_again()
    {
        var store = Store();
        Assert.Null(store.FindNewest());
        Save(store, 60, 1000);
        Save(store, 120, 2000);
        var found = Store().FindNewest()!;
        Assert.Equal(new CheckpointInfo(120, 1, "model α"), found.Info);
        Assert.Equal(["state.bin", "trainer.json"], found.Files.Select(f => f.Name));
        Assert.Equal(Bytes(2000), File.ReadAllBytes(found.PathOf("state.bin")));
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(Bytes(2000))), found.Files[0].Sha256);
        Assert.Equal(_folder["run/step-00000120"], found.Directory);
        Assert.Equal([60, 120], store.Steps);
        Assert.Empty(_reports);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData((4 << 20) - 1)]
    [InlineData(4 << 20)]
    [InlineData((12 << 20) + 5)]
    public void Content_and_hash_are_right_for_any_length_and_any_pieces(int length)
    {
        var bytes = Bytes(length);
        var store = Store();
        store.Save(new(1, 1, "m"), draft => draft.Write("a", stream =>
        {
            var random = new Random(length);
            for (var done = 0; done < bytes.Length;)
            {
                var piece = Math.Min(bytes.Length - done, random.Next(4) == 0 ? 9 << 20 : random.Next(1, 100_000));
                stream.Write(bytes.AsSpan(done, piece));
                done += piece;
            }

            Assert.Equal(length, stream.Position);
        }));
        var file = store.FindNewest()!.Files.Single();
        Assert.Equal((length, Convert.ToHexStringLower(SHA256.HashData(bytes))), (file.Bytes, file.Sha256));
        Assert.Equal(bytes, File.ReadAllBytes(store.Open(1).PathOf("a")));
    }

    [Theory]
    [InlineData("a flipped bit", "state.bin does not match its SHA-256")]
    [InlineData("a cut file", "state.bin has 999 bytes instead of 1000")]
    [InlineData("a lost file", "state.bin is missing")]
    [InlineData("no manifest", "manifest.json is missing")]
    [InlineData("an empty manifest", "manifest.json is damaged")]
    [InlineData("half a manifest", "manifest.json is damaged")]
    [InlineData("another step", "fields do not match its digest")]
    [InlineData("another world size", "fields do not match its digest")]
    [InlineData("a way out", "is not a file of this directory")]
    [InlineData("a renamed directory", "its manifest is of step 120")]
    [InlineData("another format", "has format 2")]
    public void A_damaged_checkpoint_is_reported_and_passed_over(string damage, string says)
    {
        var store = Store();
        Save(store, 60, 1000);
        Save(store, 120, 1000);
        var directory = _folder["run/step-00000120"];
        var (state, manifest) = (Path.Combine(directory, "state.bin"), Path.Combine(directory, "manifest.json"));
        var text = File.ReadAllText(manifest);
        var newest = 60L;
        switch (damage)
        {
            case "a flipped bit":
                var bytes = File.ReadAllBytes(state);
                bytes[500] ^= 4;
                File.WriteAllBytes(state, bytes);
                break;
            case "a cut file":
                File.WriteAllBytes(state, Bytes(999));
                break;
            case "a lost file":
                File.Delete(state);
                break;
            case "no manifest":
                File.Delete(manifest);
                break;
            case "an empty manifest":
                File.WriteAllText(manifest, "");
                break;
            case "half a manifest":
                File.WriteAllText(manifest, text[..(text.Length / 2)]);
                break;
            case "another step":
                File.WriteAllText(manifest, text.Replace("\"step\": 120", "\"step\": 121"));
                break;
            case "another world size":
                File.WriteAllText(manifest, text.Replace("\"world_size\": 1", "\"world_size\": 2"));
                break;
            case "a way out":
                File.WriteAllText(manifest, text.Replace("state.bin", "../../../state.bin"));
                break;
            case "another format":
                File.WriteAllText(manifest, text.Replace("\"format\": 1", "\"format\": 2"));
                break;
            default:
                Directory.Move(directory, _folder["run/step-00000180"]);
                break;
        }

        Assert.Equal(newest, Store().FindNewest()!.Info.Step);
        var report = Assert.Single(_reports);
        Assert.Contains(says, report);
        Assert.DoesNotContain('\n', report);
    }

    [Fact]
    public void Only_the_newest_are_kept()
    {
        var store = Store(keep: 2);
        for (var step = 10; step <= 50; step += 10)
        {
            Save(store, step, 100);
        }

        Assert.Equal([40, 50], store.Steps);
        Assert.Equal(["step-00000040", "step-00000050"], Entries());
    }

    [Fact]
    public void A_checkpoint_that_verified_is_not_removed_in_favour_of_damaged_ones()
    {
        Save(Store(), 10, 100);
        Save(Store(), 20, 100);
        Save(Store(), 30, 100);
        File.Delete(_folder["run/step-00000020/state.bin"]);
        File.WriteAllBytes(_folder["run/step-00000030/state.bin"], new byte[100]);
        var store = Store(keep: 2);
        Assert.Equal(10, store.FindNewest()!.Info.Step);

        // 20 and 30 do not count among the two that are kept
        Save(store, 40, 100);
        Assert.Equal([10, 20, 30, 40], store.Steps);
        File.Delete(_folder["run/step-00000040/state.bin"]);
        Assert.Equal(10, Store().FindNewest()!.Info.Step);
        Save(store, 50, 100);
        Save(store, 60, 100);
        Assert.Equal([50, 60], store.Steps);
    }

    [Fact]
    public void The_same_step_can_be_saved_again()
    {
        var store = Store(keep: 3);
        Save(store, 10, 100);
        Save(store, 10, 200);
        Assert.Equal(200, store.FindNewest()!.Files[0].Bytes);
        Assert.Equal(["step-00000010"], Entries());
    }

    [Fact]
    public void Leftovers_are_removed_and_nothing_else_is()
    {
        Save(Store(), 10, 100);
        foreach (var name in new[] { "step-00000020.tmp", "step-00000030.trash", "step-00000040.tmp.trash", "step-7.tmp", "notes", "step-00000010.old" })
        {
            Directory.CreateDirectory(_folder[$"run/{name}"]);
            File.WriteAllText(_folder[$"run/{name}/x"], "x");
        }

        Assert.Equal(10, Store().FindNewest()!.Info.Step);
        Store().RemoveLeftovers();
        Assert.Equal(["notes", "step-00000010", "step-7.tmp"], Entries());
        Assert.Equal(10, Store().FindNewest()!.Info.Step);
    }

    [Fact]
    public void A_checkpoint_is_invisible_until_it_is_published_and_a_failed_one_leaves_nothing()
    {
        var store = Store();
        Save(store, 10, 100);
        Assert.Throws<FormatException>(() => store.Save(new(20, 1, "m"), draft =>
        {
            draft.Write("a", Bytes(10));
            Assert.Equal(10, Store().FindNewest()!.Info.Step);
            throw new FormatException("planted");
        }));
        Assert.Equal(["step-00000010"], Entries());
    }

    [Fact]
    public void Ranks_write_their_files_and_rank_0_publishes()
    {
        var info = new CheckpointInfo(60, 3, "m");
        var drafts = new[] { Store().Begin(info), Store().Join(info, 1), Store().Join(info, 2) };
        Parallel.For(0, 3, rank => drafts[rank].Write($"shard-{rank}", Bytes(100 + rank)));
        drafts[1].Finish();
        Assert.Contains("part-00002.json is missing", Assert.Throws<InvalidInputException>(() => Store().Publish(drafts[0])).Message);
        drafts[2].Finish();
        Store().Publish(drafts[0]);
        var found = Store().FindNewest()!;
        Assert.Equal(info, found.Info);
        Assert.Equal([100, 101, 102], found.Files.Select(f => f.Bytes));
    }

    [Fact]
    public void A_rank_of_another_run_is_noticed()
    {
        var draft = Store().Begin(new(60, 2, "m"));
        Store().Join(new(60, 2, "n"), 1).Finish();
        Assert.Contains("rank 1 wrote", Assert.Throws<InvalidInputException>(() => Store().Publish(draft)).Message);
    }

    [Fact]
    public void Names_that_leave_the_directory_or_are_reserved_are_refused()
    {
        var draft = Store().Begin(new(60, 1, "m"));
        draft.Write("a", []);
        foreach (var name in new[] { "", ".", "..", "../a", "a/b", "/etc/x", "manifest.json", "part-00001.json", "a", "ü", ".a" })
        {
            Assert.Throws<ArgumentException>(() => draft.Write(name, []));
        }
    }

    [Fact]
    public void Opening_a_step_by_number()
    {
        Save(Store(), 60, 100);
        Assert.Equal(60, Store().Open(60).Info.Step);
        Assert.Contains("it holds 60", Assert.Throws<InvalidInputException>(() => Store().Open(61)).Message);
        File.WriteAllBytes(_folder["run/step-00000060/state.bin"], new byte[100]);
        Store().Open(60);
        Assert.Throws<InvalidInputException>(() => Store().Open(60, verifyHashes: true));
        Assert.Contains("'state.bin'", Assert.Throws<InvalidInputException>(() => Store().Open(60).OpenRead("stat.bin")).Message);
    }

    [Fact]
    public void A_disk_that_becomes_full_costs_one_sentence_and_no_checkpoint()
    {
        var disk = new ForgetfulDisk();
        var store = new CheckpointStore("/run", 1, _reports.Add, disk);
        Save(store, 10, 100);
        disk.Full = true;
        var message = Assert.Throws<InvalidInputException>(() => Save(store, 20, 100)).Message;
        Assert.Contains("step 20", message);
        Assert.Contains("No space left on device", message);
        disk.Full = false;
        Assert.Equal(10, store.FindNewest()!.Info.Step);
    }

    [Fact]
    public void A_small_file_system_that_becomes_full_costs_one_sentence_and_no_checkpoint()
    {
        Directory.CreateDirectory(_folder["run"]);
        if (!OperatingSystem.IsLinux() || Start("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", _folder["run"]) != 0)
        {
            Assert.Skip("mounting a small tmpfs needs Linux and root");
        }

        try
        {
            var store = Store(keep: 1);
            Save(store, 10, 600_000);
            var message = Assert.Throws<InvalidInputException>(() => Save(store, 20, 600_000)).Message;
            Assert.Contains("cannot write the checkpoint of step 20", message);
            Assert.Contains("No space left", message, StringComparison.OrdinalIgnoreCase);
            Assert.DoesNotContain('\n', message);
            Assert.Equal(10, store.FindNewest()!.Info.Step);
            Assert.Equal(["step-00000010"], Entries());
        }
        finally
        {
            Assert.Equal(0, Start("umount", _folder["run"]));
        }
    }

    [Fact]
    public void A_place_that_cannot_be_written_costs_one_sentence()
    {
        _folder.Write("file", "x");
        var store = new CheckpointStore(_folder["file/run"], 0, _reports.Add);
        Assert.Null(store.FindNewest());
        var message = Assert.Throws<InvalidInputException>(() => Save(store, 10, 10)).Message;
        Assert.Contains("cannot write the checkpoint of step 10", message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void A_killed_process_leaves_a_whole_checkpoint()
    {
        if (Environment.ProcessPath is not { } self || !Path.GetFileName(self).StartsWith("Z1Coder.Tests", StringComparison.Ordinal))
        {
            Assert.Skip("the tests do not run in a process of their own");
            return;
        }

        long newest = 0;
        for (var repeat = 0; repeat < 4; repeat++)
        {
            var start = new ProcessStartInfo(self, ["-method", "*" + nameof(Child_that_saves_until_it_is_killed)])
            {
                RedirectStandardOutput = true,
                Environment = { [KilledRun] = _folder["run"] },
            };
            using var child = Process.Start(start)!;
            child.OutputDataReceived += (_, _) => { };
            child.BeginOutputReadLine();
            var patience = Stopwatch.StartNew();
            while (Store().Steps.Append(0).Max() <= newest + 3 && patience.Elapsed < TimeSpan.FromSeconds(60))
            {
                Thread.Sleep(1);
            }

            Thread.Sleep(7 * repeat);
            child.Kill();
            child.WaitForExit();
            Assert.True(patience.Elapsed < TimeSpan.FromSeconds(60), "the child saved nothing");
            var found = Store().FindNewest()!;
            Assert.True(found.Info.Step > newest);
            newest = found.Info.Step;
            Assert.Equal(Bytes((int)newest * 1000), File.ReadAllBytes(found.PathOf("state.bin")));
        }

        Assert.Empty(_reports);
        Store().RemoveLeftovers();
        Assert.All(Entries(), e => Assert.Equal("step-00000000".Length, e.Length));
    }

    /// <summary>Runs only in the process that the test above starts and kills.</summary>
    [Fact]
    public void Child_that_saves_until_it_is_killed()
    {
        if (Environment.GetEnvironmentVariable(KilledRun) is not { } directory)
        {
            Assert.Skip("runs only as the child of another test");
            return;
        }

        var store = new CheckpointStore(directory, keep: 2);
        store.RemoveLeftovers();
        for (var step = (store.FindNewest()?.Info.Step ?? 0) + 1; step < 3000; step++)
        {
            Save(store, step, (int)step * 1000);
        }
    }

    private static byte[] Bytes(int length)
    {
        var bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        return bytes;
    }

    private static void Save(CheckpointStore store, long step, int bytes) => store.Save(new(step, 1, "model α"), draft =>
    {
        draft.Write("state.bin", Bytes(bytes));
        draft.Write("trainer.json", Encoding.UTF8.GetBytes("{}"));
    });

    private static int Start(params string[] command)
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo(command[0], command[1..]) { RedirectStandardError = true })!;
            process.WaitForExit();
            return process.ExitCode;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return -1;
        }
    }

    private CheckpointStore Store(int keep = 0) => new(_folder["run"], keep, _reports.Add);

    private IEnumerable<string> Entries() => Directory.GetFileSystemEntries(_folder["run"]).Select(e => Path.GetFileName(e)).Order(StringComparer.Ordinal);
}
