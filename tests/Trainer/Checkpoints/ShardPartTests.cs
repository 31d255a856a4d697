using Xunit;
using Z1Coder.Trainer.Checkpoints;
using Z1Coder.Trainer.Model;

namespace Z1Coder.Tests.Trainer.Checkpoints;

public sealed class ShardPartTests
{
    public static TheoryData<World> Worlds => new(World.All);

    [Theory, MemberData(nameof(Worlds))]
    public void The_parts_of_all_ranks_hold_every_element_once(World world)
    {
        var parameters = ShardedState.Parameters.Blocks.SelectMany(b => b.Parts).ToDictionary(p => p.Name, p => new int[p.Shape.Count]);
        for (var rank = 0; rank < world.Size; rank++)
        {
            using var state = new ShardedState(world, rank);
            foreach (var range in state.Part.Ranges())
            {
                Assert.True(range.Count > 0);
                for (var i = 0; i < range.Count; i++)
                {
                    parameters[range.Parameter][range.Start + i]++;
                }
            }
        }

        Assert.All(parameters.Values, counts => Assert.All(counts, c => Assert.Equal(1, c)));
    }

    [Theory, MemberData(nameof(Worlds))]
    public void A_range_points_where_the_layout_has_the_element(World world)
    {
        for (var rank = 0; rank < world.Size; rank++)
        {
            using var state = new ShardedState(world, rank);
            var names = ShardedState.Parameters.Blocks.SelectMany(b => b.Parts).Select(p => p.Name).ToList();
            var places = state.Elements().Where(e => e.Role == 0 && e.Index >= 0).ToDictionary(e => (names[e.Parameter], e.Element), e => (e.Unit, e.Index));
            foreach (var range in state.Part.Ranges())
            {
                for (var i = 0; i < range.Count; i++)
                {
                    Assert.Equal((range.Unit, range.ShardStart + i), places[(range.Parameter, range.Start + i)]);
                }

                var (from, to) = state.Part.Bounds(range.Unit);
                Assert.InRange(range.ShardStart, from, to - range.Count);
                Assert.Equal($"{range.Parameter}@{range.Start}", range.Name);
            }
        }
    }

    [Theory]
    [InlineData(1024, 1)]
    [InlineData(128, 8)]
    [InlineData(1, 1000)]
    public void Many_ranks_tile_too_and_some_may_have_nothing(int shards, int replicas)
    {
        var counts = ShardedState.Parameters.Blocks.SelectMany(b => b.Parts).ToDictionary(p => p.Name, _ => 0L);
        var layout = new ShardLayout(ShardedState.Parameters, shards);
        var empty = 0;
        for (var rank = 0; rank < shards * replicas; rank++)
        {
            var ranges = new ShardPart(layout, rank % shards, rank / shards, replicas).Ranges().ToList();
            empty += ranges.Count == 0 ? 1 : 0;
            ranges.ForEach(r => counts[r.Parameter] += r.Count);
        }

        Assert.All(ShardedState.Parameters.Blocks.SelectMany(b => b.Parts), p => Assert.Equal(p.Shape.Count, counts[p.Name]));
        Assert.True(empty > 0, "the case is not what it is meant to be");
    }
}
