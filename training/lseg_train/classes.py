"""Words of the data sets whose archives have none, in the order of their masks' values, as `lseg-fast eval` has them
(src/eval/{cityscapes,voc,coco}.rs)."""


def listed(text):
    return [word.strip() for word in text.split(",")]


# Mask value (`labelIds`) and word of each train id.
CITYSCAPES = [
    (7, "road"), (8, "sidewalk"), (11, "building"), (12, "wall"), (13, "fence"), (17, "pole"), (19, "traffic light"),
    (20, "traffic sign"), (21, "vegetation"), (22, "terrain"), (23, "sky"), (24, "person"), (25, "rider"),
    (26, "car"), (27, "truck"), (28, "bus"), (31, "train"), (32, "motorcycle"), (33, "bicycle"),
]  # fmt: skip

VOC = listed(
    """
background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, diningtable, dog, horse,
motorbike, person, pottedplant, sheep, sofa, train, tvmonitor"""
)

COCO = listed(
    """
person, bicycle, car, motorbike, aeroplane, bus, train, truck, boat, trafficlight, firehydrant, stopsign,
parkingmeter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella,
handbag, tie, suitcase, frisbee, skis, snowboard, sportsball, kite, baseballbat, baseballglove, skateboard,
surfboard, tennisracket, bottle, wineglass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange,
broccoli, carrot, hotdog, pizza, donut, cake, chair, sofa, pottedplant, bed, diningtable, toilet, tvmonitor,
laptop, mouse, remote, keyboard, cellphone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
scissors, teddybear, hairdrier, toothbrush"""
)
