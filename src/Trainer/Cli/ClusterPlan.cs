using System.Text.Json;
using Z1Coder.Runtime;
using Z1Coder.Trainer.Data;
using Z1Coder.Trainer.Model;
using Z1Coder.Trainer.Train;

namespace Z1Coder.Trainer.Cli;

/// <summary>What `z1 plan --gpus` shows: a table over strategies, the recommended one by role and by collective, and the recipe as it
/// is.</summary>
internal static class ClusterPlan
{
    private const double Gib = 1 << 30, Gigabyte = 1e9;

    public static void Write(Qwen2Config config, string dtype, IReadOnlyList<StageRecipe> stages, bool isRecipe, ClusterShape cluster,
        bool asJson)
    {
        using var stream = new CpuStream(1);
        var plans = stages.GroupBy(s => (s.Data.MaxLength, s.Train, s.Parallel, s.Checkpoint.Async))
            .Select(same => Make(string.Join(", ", same.Select(s => s.Name)), config, dtype, same.First(), isRecipe, cluster,
                stream)).ToList();
        if (asJson)
        {
            CliJson.Write(json => Json(json, config, cluster, plans));
        }
        else
        {
            plans.ForEach(p => Print(config, dtype, cluster, p));
        }
    }

    private static StagePlan Make(
        string name, Qwen2Config config, string dtype, StageRecipe stage, bool isRecipe, ClusterShape cluster, CpuStream stream)
    {
        var rows = PlanSearch.Rows(config, stage, dtype, cluster, stream);
        var best = PlanSearch.Best(rows);
        var (asWritten, refusal) = ((RankPlan?)null, (string?)null);
        try
        {
            asWritten = isRecipe ? RankPlan.Of(config, stage, dtype, stage.Parallel, cluster, stream) : null;
        }
        catch (InvalidInputException e)
        {
            refusal = e.Message;
        }

        return new StagePlan(
            name, stage, rows, best.Fits ? best : null, best.Fits ? null : PlanSearch.WhatWouldFit(config, stage, dtype, cluster, stream),
            asWritten, refusal);
    }

    private static void Print(Qwen2Config config, string dtype, ClusterShape cluster, StagePlan plan)
    {
        var stage = plan.Stage;
        Console.WriteLine(
            $"{plan.Name}: {new Qwen2Parameters(config).Count:N0} parameters, {dtype}, steps of {stage.Train.BatchSamples:N0} samples of {stage.Data.MaxLength:N0} tokens");
        Console.WriteLine(
            $"{cluster.Gpus} GPU{(cluster.Gpus > 1 ? "s" : "")}, {cluster.GpusPerNode} a node, {cluster.MemoryBytes / Gib:F1} GiB each ({cluster.ReserveBytes / Gib:F1} reserved); "
            + $"assumed: GEMM {cluster.GemmFlopsPerSecond / 1e12:F0} TFLOP/s, memory {cluster.BytesPerSecond / Gigabyte:N0} GB/s, links {cluster.InsideBytesPerSecond / Gigabyte:N0} GB/s "
            + $"in a node, {cluster.NodeBytesPerSecond / Gigabyte:N0} GB/s from node to node");
        Console.WriteLine(
            $"  {"strategy",-38}{"micro-batch",11}{"recompute",15}{"GiB",8}{"fits",6}{"host GiB",10}{"sent GB",11}{"exposed s",11}{"step s",9}{"tokens/s",12}{"MFU",8}");
        foreach (var row in plan.Rows)
        {
            Console.WriteLine(
                $"  {PlanSearch.StrategyName(row.Parallel),-38}{row.Train.MicroBatchTokens,11:N0}{RecomputeName(row.Train.Recompute),15}{row.DeviceBytes / Gib,8:F1}"
                + $"{(row.Fits ? "yes" : "no"),6}{row.Memory.HostBytes / Gib,10:F1}{row.BytesMoved / Gigabyte,11:N1}{row.ExposedSeconds,11:F2}{row.StepSeconds,9:F1}"
                + $"{row.TokensPerSecond,12:N0}{row.Mfu,8:P0}");
        }

        if (plan.Recommended is { } best)
        {
            Console.WriteLine(
                $"recommended: parallel.strategy {PlanSearch.StrategyName(best.Parallel)}; train.micro_batch_tokens {best.Train.MicroBatchTokens}, recompute [{RecomputeName(best.Train.Recompute)}]");
            foreach (var (role, bytes) in best.Memory.Roles)
            {
                Console.WriteLine($"  {role,-20}{bytes / Gib,10:F3} GiB");
            }

            Console.WriteLine($"  {"reserve",-20}{cluster.ReserveBytes / Gib,10:F3} GiB");
            foreach (var (role, bytes) in best.Memory.HostRoles)
            {
                Console.WriteLine($"  {role,-20}{bytes / Gib,10:F3} GiB of host memory, {bytes * cluster.LocalSize / Gib:F1} a node");
            }

            foreach (var traffic in best.Traffic)
            {
                Console.WriteLine(
                    $"  {traffic.What}: {traffic.Calls:N0} calls over {traffic.Ranks} ranks, {traffic.BytesPerRank / Gigabyte:N1} GB sent, {traffic.Seconds:F2} s, {traffic.ExposedSeconds:F2} s exposed");
            }
        }
        else
        {
            Console.WriteLine(plan.WhatWouldFit);
        }

        if (plan.AsWritten is { } written)
        {
            Console.WriteLine(
                $"as the recipe is: {PlanSearch.StrategyName(written.Parallel)}, micro_batch_tokens {written.Train.MicroBatchTokens}, recompute [{RecomputeName(written.Train.Recompute)}]: "
                + $"{written.DeviceBytes / Gib:F1} GiB, {(written.Fits ? "fits" : "does NOT fit")}; {written.StepSeconds:F1} s a step, {written.Rounds:N0} micro-batches a rank");
        }
        else if (plan.Refusal is not null)
        {
            Console.WriteLine($"as the recipe is: {plan.Refusal}");
        }
    }

    private static void Json(Utf8JsonWriter json, Qwen2Config config, ClusterShape cluster, List<StagePlan> plans)
    {
        json.WriteNumber("gpus", cluster.Gpus);
        json.WriteNumber("gpus_per_node", cluster.GpusPerNode);
        json.WriteNumber("available_bytes", cluster.MemoryBytes);
        json.WriteNumber("reserved_bytes", cluster.ReserveBytes);
        json.WriteNumber("gemm_flops_per_second", cluster.GemmFlopsPerSecond);
        json.WriteNumber("bytes_per_second", cluster.BytesPerSecond);
        json.WriteNumber("link_bytes_per_second", cluster.InsideBytesPerSecond);
        json.WriteNumber("node_bytes_per_second", cluster.NodeBytesPerSecond);
        json.WriteStartArray("stages");
        foreach (var plan in plans)
        {
            json.WriteStartObject();
            json.WriteString("name", plan.Name);
            json.WriteNumber("parameters", new Qwen2Parameters(config).Count);
            json.WriteStartArray("strategies");
            foreach (var row in plan.Rows)
            {
                Row(json, row);
            }

            json.WriteEndArray();
            json.WritePropertyName("recommended");
            Row(json, plan.Recommended);
            json.WriteString("what_would_fit", plan.WhatWouldFit);
            json.WritePropertyName("as_the_recipe_is");
            Row(json, plan.AsWritten);
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void Row(Utf8JsonWriter json, RankPlan? row)
    {
        if (row is null)
        {
            json.WriteNullValue();
            return;
        }

        json.WriteStartObject();
        json.WriteString("strategy", row.Parallel.Strategy.ToString().ToLowerInvariant());
        json.WriteString("reduce_per", row.Parallel.ReducePerMicroBatch ? "micro_batch" : "step");
        json.WriteString("offload", row.Parallel.OffloadOptimizer ? "optimizer" : "none");
        json.WriteNumber("micro_batch_tokens", row.Train.MicroBatchTokens);
        json.WriteString("recompute", RecomputeName(row.Train.Recompute));
        json.WriteNumber("micro_batches_per_rank", row.Rounds);
        Bytes("bytes", row.Memory.Roles);
        Bytes("host_bytes", row.Memory.HostRoles);
        json.WriteNumber("total_bytes", row.DeviceBytes);
        json.WriteBoolean("fits", row.Fits);
        json.WriteStartArray("collectives");
        foreach (var traffic in row.Traffic)
        {
            json.WriteStartObject();
            json.WriteString("what", traffic.What);
            json.WriteNumber("ranks", traffic.Ranks);
            json.WriteNumber("calls", traffic.Calls);
            json.WriteNumber("bytes_sent", traffic.BytesPerRank);
            json.WriteNumber("seconds", traffic.Seconds);
            json.WriteNumber("exposed_seconds", traffic.ExposedSeconds);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNumber("bytes_sent", row.BytesMoved);
        json.WriteNumber("compute_seconds", row.ComputeSeconds);
        json.WriteNumber("optimizer_seconds", row.OptimizerSeconds);
        json.WriteNumber("exposed_seconds", row.ExposedSeconds);
        json.WriteNumber("seconds_per_step", row.StepSeconds);
        json.WriteNumber("tokens_per_second", row.TokensPerSecond);
        json.WriteNumber("mfu", row.Mfu);
        json.WriteEndObject();

        void Bytes(string name, IReadOnlyList<(string Role, long Bytes)> roles)
        {
            json.WriteStartObject(name);
            foreach (var (role, bytes) in roles)
            {
                json.WriteNumber(role, bytes);
            }

            json.WriteEndObject();
        }
    }

    private static string RecomputeName(Recompute recompute) => recompute switch
    {
        Recompute.None => "none",
        Recompute.Block => "block",
        _ => string.Join(", ", recompute.ToString().ToLowerInvariant().Split(", ")),
    };

    private sealed record StagePlan(
        string Name, StageRecipe Stage, IReadOnlyList<RankPlan> Rows, RankPlan? Recommended, string? WhatWouldFit, RankPlan? AsWritten,
        string? Refusal);
}
