using Xunit;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Data;

namespace Z1Coder.Tests.Trainer.Checkpoints;

/// <summary>Ranks save together; any other number of ranks, cut in any other way, reads the same bits.</summary>
public sealed class CheckpointWriterTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly List<string> _reports = [];

    public static TheoryData<World, bool> Saves => [.. World.All.SelectMany(w => new[] { (w, true), (w, false) })];

    public void Dispose() => _folder.Dispose();

    [Theory, MemberData(nameof(Saves))]
    public void What_some_ranks_save_any_others_load(World from, bool asynchronous)
    {
        Save(from, asynchronous, step: 7, seed: 1);
        foreach (var to in World.All)
        {
            var wrong = LockstepRanks.All(to.Size, ranks =>
            {
                using var state = new ShardedState(to, ranks.Rank);
                var checkpoint = Store().FindNewest(ranks)!;
                Assert.Equal(new CheckpointInfo(7, from.Size, "tiny"), checkpoint.Info);
                state.Load(checkpoint);
                using var progress = checkpoint.OpenRead("progress.json");
                Assert.Equal([1, 2, 3], Enumerable.Range(0, 3).Select(_ => progress.ReadByte()));
                return state.Wrong(seed: 1);
            });
            Assert.All(wrong, w => Assert.Equal(0, w));
        }

        Assert.Empty(_reports);
    }

    [Fact]
    public void A_wrong_bit_would_be_seen_by_these_tests()
    {
        using var state = new ShardedState(new(2, 1), 1).Fill(1);
        Assert.Equal(0, state.Wrong(1));
        Assert.True(state.Wrong(2) > 1000);
        state.Sets[2].Values.Units[^1].Span[^1] = 1e-30f;
        Assert.Equal(1, state.Wrong(1));
    }

    [Theory, MemberData(nameof(Saves))]
    public void Replicas_write_every_byte_once(World world, bool asynchronous)
    {
        Save(world, asynchronous, step: 7, seed: 1);
        var files = Store().Open(7).Files.Where(f => f.Name != "progress.json").ToList();
        Assert.Equal(3 * world.Size, files.Count);
        var data = files.Sum(f =>
        {
            using var file = SafetensorsFile.Open(_folder[$"run/step-00000007/{f.Name}"]);
            return file.Tensors.Sum(t => t.Bytes);
        });
        Assert.Equal(3 * sizeof(float) * ShardedState.Parameters.Count, data);
    }

    [Fact]
    public void Written_beside_the_steps_or_in_place_the_bytes_are_the_same()
    {
        foreach (var world in World.All)
        {
            var files = new[] { true, false }.Select(asynchronous =>
            {
                // steps go on while the threads write: the state changes under them
                LockstepRanks.All(world.Size, ranks =>
                {
                    using var state = new ShardedState(world, ranks.Rank).Fill(1);
                    using var writer = state.Writer(Store(), ranks, asynchronous);
                    var published = writer.Begin(5, "progress.json", [1]) is [.., var last] ? last : 0;
                    state.Fill(2);
                    while (writer.IsPending)
                    {
                        published = writer.Poll() ?? published;
                    }

                    Assert.Equal(5, published);
                    return 0;
                });
                return Store().Open(5, verifyHashes: true).Files;
            }).ToList();
            Assert.Equal(files[0], files[1]);
        }
    }

    [Fact]
    public void Steps_go_on_while_a_save_is_written_and_a_second_save_waits_for_it()
    {
        using var gate = new ManualResetEventSlim(false);
        var disk = new ForgetfulDisk
        {
            Before = () => Assert.True(Thread.CurrentThread.Name != "checkpoint" || gate.Wait(TimeSpan.FromSeconds(60))),
        };
        LockstepRanks.All(2, ranks =>
        {
            using var state = new ShardedState(new(2, 1), ranks.Rank).Fill(1);
            using var writer = state.Writer(new CheckpointStore("/run", 0, null, disk), ranks, asynchronous: true);
            Assert.Empty(writer.Begin(1, "p", [1]));
            for (var step = 0; step < 20; step++)
            {
                Assert.Null(writer.Poll());
                Assert.True(writer.IsPending);
            }

            Assert.Equal(1, writer.LastStep);
            ranks.Barrier();
            gate.Set();
            Assert.Equal([1L], writer.Begin(2, "p", [2]));
            Assert.Equal(2, writer.Complete());
            writer.Begin(3, "p", [3]);
            Assert.Equal(3, writer.Complete());
            Assert.Null(writer.Complete());
            Assert.Null(writer.Poll());
            return 0;
        });
        Assert.Equal([1, 2, 3], new CheckpointStore("/run", 0, null, disk).Steps);
        var newest = new CheckpointStore("/run", 0, null, disk).FindNewest()!;
        Assert.Equal((3, 2), (newest.Info.Step, newest.Info.WorldSize));
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(1, true)]
    [InlineData(2, true)]
    [InlineData(0, false)]
    [InlineData(2, false)]
    public void A_rank_without_room_ends_the_save_on_all_and_costs_no_checkpoint(int full, bool asynchronous)
    {
        var disk = new ForgetfulDisk();
        var results = LockstepRanks.Run(3, ranks =>
        {
            using var state = new ShardedState(new(3, 1), ranks.Rank).Fill(1);
            var own = new FailingDisk(disk);
            using var writer = state.Writer(new CheckpointStore("/run", 1, null, own), ranks, asynchronous);
            writer.Begin(1, "p", [1]);
            writer.Complete();
            own.Full = ranks.Rank == full;
            var e = Assert.Throws<InvalidInputException>(() =>
            {
                writer.Begin(2, "p", [2]);
                while (writer.IsPending)
                {
                    writer.Poll();
                }
            });
            Assert.False(writer.IsPending);
            own.Full = false;

            // the next save goes through
            var message = e.Message;
            if (full != 0)
            {
                writer.Begin(3, "p", [3]);
                Assert.Equal(asynchronous ? 3 : null, writer.Complete());
            }

            return message;
        });
        Assert.All(results, r => Assert.Null(r.Thrown));
        Assert.All(results, r => Assert.Contains("cannot write the checkpoint of step 2", r.Result));
        Assert.All(results, r => Assert.DoesNotContain('\n', r.Result!));
        for (var rank = 0; rank < 3; rank++)
        {
            Assert.Contains(rank == full ? "No space left on device" : $"rank {full} could not write", results[rank].Result);
        }

        Assert.Equal([full != 0 ? "step-00000003" : "step-00000001"], disk.Directories("/run"));
    }

    [Fact]
    public void The_newest_whole_one_is_agreed_on_whoever_finds_the_damage()
    {
        foreach (var file in (int[])[0, 1, 2])
        {
            Save(new(3, 1), true, 1, seed: 1);
            Save(new(3, 1), true, 2, seed: 2);
            var path = _folder[$"run/step-00000002/second-moments.{file:D5}-of-00003.safetensors"];
            var bytes = File.ReadAllBytes(path);
            bytes[^9] ^= 1;
            File.WriteAllBytes(path, bytes);
            _reports.Clear();
            foreach (var size in (int[])[1, 2, 3, 4])
            {
                Assert.All(LockstepRanks.All(size, ranks => Store().FindNewest(ranks)!.Info.Step), step => Assert.Equal(1, step));
            }

            Assert.Contains(_reports, r => r.Contains("SHA-256", StringComparison.Ordinal));
            Directory.Delete(_folder["run"], recursive: true);
        }
    }

    [Fact]
    public void Without_a_checkpoint_all_ranks_agree_on_that()
    {
        Assert.All(LockstepRanks.All(3, ranks => Store().FindNewest(ranks) is null), none => Assert.True(none));
        _folder.Write("file", "x");
        Assert.All(LockstepRanks.Run(2, r => new CheckpointStore(_folder["none/x"], 0, null).FindNewest(r)), r => Assert.Null(r.Thrown));
    }

    [Fact]
    public void Old_ones_go_when_the_next_is_there()
    {
        LockstepRanks.All(2, ranks =>
        {
            using var state = new ShardedState(new(1, 2), ranks.Rank).Fill(1);
            using var writer = state.Writer(Store(keep: 2), ranks, asynchronous: true);
            for (var step = 10; step <= 50; step += 10)
            {
                writer.Begin(step, "p", [1]);
            }

            return writer.Complete();
        });
        Assert.Equal([40, 50], Store().Steps);
        Assert.Equal(2, Directory.GetFileSystemEntries(_folder["run"]).Length);
    }

    [Fact]
    public void A_run_that_ends_without_waiting_leaves_the_checkpoint_unpublished()
    {
        Save(new(1, 1), true, 1, seed: 1);
        using (var state = new ShardedState(new(1, 1), 0).Fill(2))
        {
            LockstepRanks.All(1, ranks =>
            {
                using var writer = state.Writer(Store(), ranks, asynchronous: true);
                writer.Begin(2, "p", [1]);
                return 0;
            });
        }

        Assert.Equal([1], Store().Steps);
        Store().RemoveLeftovers();
        Assert.Single(Directory.GetFileSystemEntries(_folder["run"]));
    }

    [Fact]
    public void A_checkpoint_of_one_process_before_there_were_ranks_is_still_read()
    {
        using (var whole = new ShardedState(new(1, 1), 0).Fill(3))
        {
            Store().Save(new(4, 1, "tiny"), draft => Array.ForEach(whole.Sets, role => draft.Write($"{role.Name}.safetensors", stream =>
            {
                var parts = ShardedState.Parameters.Blocks.SelectMany((b, i) => b.Parts.Select(p => (Block: i, Part: p))).ToList();
                var writer = new SafetensorsWriter(stream, parts.ConvertAll(p => new SafetensorInfo(
                    p.Part.Name, SafetensorDtype.F32, [.. Enumerable.Range(0, p.Part.Shape.Rank).Select(a => (long)p.Part.Shape[a])])));
                var at = new Dictionary<int, int>();
                foreach (var (block, part) in parts)
                {
                    var layout = whole.Part.Layout;
                    var start = at.GetValueOrDefault(block, layout.OffsetOf(block));
                    writer.Write(part.Name, role.Values.Units[layout.UnitOf(block)].Span.Slice(start, (int)part.Shape.Count));
                    at[block] = start + (int)part.Shape.Count;
                }

                writer.Complete();
            })));
        }

        foreach (var world in World.All)
        {
            for (var rank = 0; rank < world.Size; rank++)
            {
                using var state = new ShardedState(world, rank);
                state.Load(Store().FindNewest()!);
                Assert.Equal(0, state.Wrong(3));
            }
        }
    }

    [Theory]
    [InlineData("a lost file", "lack elements ")]
    [InlineData("a file twice", " twice")]
    [InlineData("a cut range", "lack elements 5239 to 5239 of model.embed_tokens.weight")]
    [InlineData("a range too long", "hold 41 elements of model.norm.weight, which has 40")]
    [InlineData("an unknown parameter", "hold 'model.layers.9.input_layernorm.weight', which is no parameter of this model")]
    [InlineData("no number", "has no element number after its '@'")]
    [InlineData("a number too large", "has no element number after its '@'")]
    [InlineData("nothing", "lack model.embed_tokens.weight, lack model.layers.0.input_layernorm.weight")]
    public void Ranges_that_do_not_tile_the_model_are_named(string fault, string says)
    {
        using var state = new ShardedState(new(1, 1), 0).Fill(1);
        using var second = new ShardedState(new(2, 1), 1).Fill(1);
        using var first = new ShardedState(new(2, 1), 0).Fill(1);
        Store().Save(new(1, 1, "tiny"), draft =>
        {
            switch (fault)
            {
                case "a lost file":
                    Write(draft, 0, first.Part.Ranges());
                    break;
                case "a file twice":
                    Write(draft, 0, first.Part.Ranges());
                    Write(draft, 1, second.Part.Ranges());
                    Write(draft, 2, second.Part.Ranges());
                    break;
                case "a cut range":
                    Write(draft, 0, state.Part.Ranges().Select(r => r.Unit == 0 ? r with { Count = r.Count - 1 } : r));
                    break;
                case "a range too long":
                    Write(draft, 0, state.Part.Ranges().Select(r => r.Parameter == "model.norm.weight" ? r with { Count = r.Count + 1 } : r));
                    break;
                case "an unknown parameter":
                    Write(draft, 0, state.Part.Ranges().Append(new("model.layers.9.input_layernorm.weight", 0, 1, 0, 40)));
                    break;
                case "no number":
                    Write(draft, 0, state.Part.Ranges().Append(new("model.norm.weight@", 0, 1, 0, 40)), r => r.Name.Replace("@@0", "@-1"));
                    break;
                case "a number too large":
                    Write(draft, 0, state.Part.Ranges().Append(new("model.norm.weight@", 0, 1, 0, 40)), r => r.Name.Replace("@@0", "@9223372036854775800"));
                    break;
                default:
                    break;
            }
        });
        var e = Assert.Throws<InvalidInputException>(() => ShardReader.Open(Store().FindNewest()!, "master", ShardedState.Parameters));
        Assert.Contains(says, e.Message);
        Assert.DoesNotContain('\n', e.Message);

        static void Write(CheckpointDraft draft, int rank, IEnumerable<ShardRange> ranges, Func<ShardRange, string>? name = null) =>
            draft.Write(ShardRole.FileName("master", rank, 3), stream =>
            {
                name ??= r => r.Name;
                var list = ranges.ToList();
                var writer = new SafetensorsWriter(stream, list.ConvertAll(r => new SafetensorInfo(name(r), SafetensorDtype.F32, r.Count)));
                list.ForEach(r => writer.Write(name(r), new float[r.Count]));
                writer.Complete();
            });
    }

    private void Save(World world, bool asynchronous, long step, int seed)
    {
        LockstepRanks.All(world.Size, ranks =>
        {
            using var state = new ShardedState(world, ranks.Rank).Fill(seed);
            using var writer = state.Writer(Store(), ranks, asynchronous);
            writer.Begin(step, "progress.json", [1, 2, 3]);
            writer.Complete();
            return 0;
        });
    }

    private CheckpointStore Store(int keep = 0) => new(_folder["run"], keep, sentence =>
    {
        lock (_reports)
        {
            _reports.Add(sentence);
        }
    });
}
